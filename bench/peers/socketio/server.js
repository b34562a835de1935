// The Socket.IO peer: `node server.js PORT [--recovery]`.
//
// "subscribe" CHANNEL joins a room and is acknowledged; "publish" CHANNEL PAYLOAD is broadcast to that room as "event".
// Each setting is one of Socket.IO's own page on performance tuning, or takes away work that the benchmark does not ask for.
const { createServer } = require("node:http");
const { Server } = require("socket.io");

const port = Number(process.argv[2]);
const options = new Set(process.argv.slice(3));

const httpServer = createServer();
const io = new Server(httpServer, {
  // Straight to WebSocket: no long polling first, no upgrade.
  transports: ["websocket"],
  // Off is the default since version 3: compressing costs CPU and memory for every client.
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
  // Keeps packets for clients that come back; off unless asked for, because every packet is stored then.
  ...(options.has("--recovery") && { connectionStateRecovery: { maxDisconnectionDuration: 120_000 } }),
});

// "Discard the initial HTTP request": otherwise each session keeps it.
io.engine.on("connection", (rawSocket) => {
  rawSocket.request = null;
});

io.on("connection", (socket) => {
  socket.on("subscribe", (channel, done) => {
    socket.join(channel);
    done?.();
  });
  socket.on("publish", (channel, payload, done) => {
    io.to(channel).emit("event", payload);
    done?.();
  });
});

httpServer.listen(port, "127.0.0.1", 4096);
