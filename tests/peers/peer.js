// A peer in Node: see peer.py. Node asks the kernel for a socket's peer when the property is read.
"use strict";
const net = require("node:net");

const shown = (host, port) => `[${host}]:${port}`;

function serve(where) {
  const server = net.createServer((socket) => {
    const accepted = shown(socket.remoteAddress, socket.remotePort);
    let request = "";
    socket.on("error", () => {});
    socket.on("data", (data) => {
      request += data;
      if (!request.includes("\r\n\r\n")) return;
      if (request.startsWith("GET /close-listener ")) server.close();
      const own = shown(socket.localAddress, socket.localPort);
      const body = `accept=${accepted} family=${socket.remoteFamily} getsockname=${own}\n`;
      socket.end(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`);
    });
  });
  // Stays when its listener is closed.
  setInterval(() => {}, 1 << 30);
  server.listen({ port: 0, host: where === "dual" ? "::" : where, ipv6Only: where === "::1" }, () => {
    console.log("port", server.address().port);
  });
}

function connect(host, port) {
  const socket = net.connect({ host, port: Number(port), autoSelectFamily: true }, () => {
    const own = shown(socket.localAddress, socket.localPort);
    console.log(`getpeername=${shown(socket.remoteAddress, socket.remotePort)} getsockname=${own}`);
    socket.write("GET / HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n");
  });
  let answer = "";
  socket.on("data", (data) => (answer += data));
  socket.on("error", (error) => {
    console.error(error.message);
    process.exit(1);
  });
  socket.on("end", () => process.stdout.write(answer.split("\r\n\r\n").slice(1).join("\r\n\r\n")));
}

({ serve, connect })[process.argv[2]](...process.argv.slice(3));
