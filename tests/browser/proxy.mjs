// What lies between a page and the gateway.

import { connect, createServer } from "node:net";

/**
 * Starts a proxy in front of the gateway, as some networks have. By its `mode` it lets WebSockets hang or refuses them;
 * otherwise it passes them on. `cut` ends all without a close frame.
 */
export async function startProxy(t, { webSocketAddress }) {
  const gateway = new URL(webSocketAddress);
  const sockets = new Set();
  const proxy = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    if (proxy.mode === "hangs") return;
    if (proxy.mode === "refuses") return socket.destroy();
    const onward = connect(gateway.port, gateway.hostname);
    socket.pipe(onward).pipe(socket);
    for (const end of [socket, onward]) end.on("error", () => socket.destroy() && onward.destroy());
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  proxy.cut = () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  t.after(() => {
    proxy.cut();
    proxy.close();
  });
  proxy.url = `ws://127.0.0.1:${proxy.address().port}${gateway.pathname}`;
  return proxy;
}
