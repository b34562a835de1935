// Starts Swagger UI. In a file of its own, because the page allows no script inside itself.
SwaggerUIBundle({
  url: new URL(document.currentScript.dataset.openapi, document.baseURI).href,
  dom_id: "#swagger-ui",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  // Its badge would ask another host about this document.
  validatorUrl: null,
});
