// Live speech to text: send a recording, print the words, survive broken connections.
//
//     node live.mjs speech.webm [ws://127.0.0.1:8000]
//
// Needs Node 22 or newer (its own WebSocket), nothing else. In a browser, see microphone.html.

import { readFileSync } from "node:fs";

const PIECE = 4000; // bytes
const PAUSE = 100; // milliseconds between pieces; a microphone sets its own pace

const [file, server = "ws://127.0.0.1:8000"] = process.argv.slice(2);
if (!file || !globalThis.WebSocket) {
  console.error(file ? "Node 22 or newer has a WebSocket." : "node live.mjs RECORDING [SERVER]");
  process.exit(2);
}
const recording = readFileSync(file);
let session = "";
let seen = 0;

function address() {
  const query = session ? { session, after: seen } : { encoding: "auto", delay: "xhigh" };
  return `${server}/v1/stream?${new URLSearchParams(query)}`;
}

async function send(socket, from) {
  for (let at = from; at < recording.length; at += PIECE) {
    if (socket.readyState !== WebSocket.OPEN) return;
    socket.send(recording.subarray(at, at + PIECE));
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "end" }));
}

function connect() {
  let done = false;
  const socket = new WebSocket(address());
  socket.onmessage = ({ data }) => {
    const event = JSON.parse(data);
    if (event.type === "ready") {
      session = event.session;
      send(socket, event.received);
    } else if (event.type === "final") {
      console.log(event.text);
    } else if (event.type === "error") {
      console.error(event.error.message);
      process.exitCode = 1;
      done = true;
    } else if (event.type === "end") {
      done = true;
    }
    seen = event.seq ?? seen;
  };
  socket.onclose = () => {
    if (!done) setTimeout(connect, 200);
  };
  socket.onerror = () => {}; // onclose follows
}

connect();
