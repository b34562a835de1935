//! The page of the WebSocket: the AsyncAPI description, written out.

use std::fmt::Write;

use serde_json::{Map, Value};

const HEAD: &str = include_str!("assets/live.html");

/// Text that cannot be taken for markup.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The page of this AsyncAPI document, with `{api}` where the address of the API goes.
pub(super) fn page(document: &Value) -> String {
    let mut contents = String::new();
    let mut body = String::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    paragraphs(&mut body, &text(&document["info"]["description"]));
    body += "<h2 id=\"addresses\">Addresses</h2>";
    for channel in members(&document["channels"]).map(|(_, channel)| channel) {
        let _ = write!(body, "<h3>{}</h3>", escaped(&text(&channel["address"])));
        paragraphs(&mut body, &text(&channel["description"]));
    }
    let query = &document["channels"]["feed"]["bindings"]["ws"]["query"];
    body += "<p>Parameters of the address; every other one is a filter key.</p>";
    fields(&mut body, document, query);
    let messages = &document["components"]["messages"];
    for (title, names) in sections(document) {
        let id = title.to_lowercase().replace(' ', "-");
        let _ = write!(body, "<h2 id=\"{id}\">{title}</h2>");
        let _ = write!(contents, "<a href=\"#{id}\">{title}</a><ul>");
        for name in names {
            let _ = write!(contents, "<li><a href=\"#{name}\"><code>{name}</code></a></li>");
            message(&mut body, document, &name, &messages[&name], title == "Commands");
        }
        contents += "</ul>";
    }
    HEAD.replace("{contents}", &contents).replace("{body}", &body)
}

/// Commands, what answers them and comes unasked, and the well-known events; each message once.
fn sections(document: &Value) -> [(&'static str, Vec<String>); 3] {
    let name = |reference: &Value| {
        reference["$ref"].as_str().and_then(|at| at.rsplit('/').next()).unwrap_or_default().to_owned()
    };
    let names = |list: &Value| list.as_array().into_iter().flatten().map(name).collect::<Vec<_>>();
    let (mut commands, mut messages, mut events) = (Vec::new(), vec!["event".to_owned()], Vec::new());
    for (_, operation) in members(&document["operations"]) {
        if operation["action"] == "receive" {
            commands.extend(names(&operation["messages"]));
            messages.extend(names(&operation["reply"]["messages"]));
        } else {
            let (known, own): (Vec<_>, Vec<_>) =
                names(&operation["messages"]).into_iter().partition(|name| name.contains('.'));
            messages.extend(own);
            events.extend(known);
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    messages.retain(|name| seen.insert(name.clone()));
    [("Commands", commands), ("Messages", messages), ("Well-known events", events)]
}

fn message(body: &mut String, document: &Value, name: &str, message: &Value, up: bool) {
    let direction = if up {
        "<span class=\"direction\">client → server</span>"
    } else {
        "<span class=\"direction down\">server → client</span>"
    };
    let _ = write!(body, "<h3 id=\"{name}\">{name}{direction}</h3>");
    paragraphs(body, message["summary"].as_str().unwrap_or_default());
    // Of a well-known event, what is its own is the payload.
    let of_payload = &message["payload"]["allOf"][1]["properties"]["payload"];
    let schema = resolved(document, if of_payload.is_null() { &message["payload"] } else { of_payload });
    if message["summary"].is_null() || !of_payload.is_null() {
        paragraphs(body, schema["description"].as_str().unwrap_or_default());
    }
    if !of_payload.is_null() {
        body.push_str("<p>Its payload:</p>");
    }
    fields(body, document, schema);
    for example in schema["examples"].as_array().into_iter().flatten() {
        let _ = write!(body, "<pre>{}</pre>", escaped(&example.to_string()));
    }
}

/// A table of the members of an object.
fn fields(body: &mut String, document: &Value, schema: &Value) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let always = schema["required"].as_array().cloned().unwrap_or_default();
    body.push_str("<table>");
    let (first, rest): (Vec<_>, Vec<_>) =
        properties.iter().partition(|(name, _)| always.iter().any(|one| one == *name));
    for ((name, property), is_always) in
        first.into_iter().map(|one| (one, true)).chain(rest.into_iter().map(|one| (one, false)))
    {
        let mark = if is_always { "<span class=\"always\" title=\"always there\">*</span>" } else { "" };
        let described = property["description"].as_str().unwrap_or_default();
        let _ = write!(
            body,
            "<tr><td><code>{}</code>{mark}</td><td>{}</td><td>{}</td></tr>",
            escaped(name),
            escaped(&kind(document, property)),
            code_spans(described)
        );
    }
    body.push_str("</table>");
}

/// What a value is, in a few words.
fn kind(document: &Value, property: &Value) -> String {
    if let Some(only) = property.get("const") {
        return only.to_string();
    }
    let schema = resolved(document, property);
    let name = |kind: &Value| kind.as_str().unwrap_or("any").to_owned();
    match &schema["type"] {
        Value::Array(kinds) => {
            kinds.iter().filter(|kind| *kind != "null").map(name).collect::<Vec<_>>().join(" or ")
        }
        Value::String(kind) if kind == "array" => {
            format!("list of {}s", self::kind(document, &schema["items"]))
        }
        kind => name(kind),
    }
}

fn resolved<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    let at = schema["$ref"].as_str().and_then(|at| at.strip_prefix('#'));
    at.and_then(|at| document.pointer(at)).unwrap_or(schema)
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// Paragraphs of prose that knows no markup but `code`.
fn paragraphs(body: &mut String, text: &str) {
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        let _ = write!(body, "<p>{}</p>", code_spans(paragraph));
    }
}

fn code_spans(text: &str) -> String {
    let parts = escaped(text);
    let parts = parts.split('`').enumerate();
    parts
        .map(|(at, part)| if at % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_has_a_place_on_the_page() {
        let document = super::super::super::asyncapi::document();
        let page = page(&document);
        for (name, _) in members(&document["components"]["messages"]) {
            assert_eq!(page.matches(&format!("<h3 id=\"{name}\">")).count(), 1, "{name}");
        }
        assert!(!page.contains("{body}") && !page.contains("<script"));
    }

    #[test]
    fn text_is_no_markup() {
        assert_eq!(code_spans("a `<b>` & \"c\""), "a <code>&lt;b&gt;</code> &amp; &quot;c&quot;");
    }
}
