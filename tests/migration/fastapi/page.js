// The page's notifications. A user whose token is not good any more is led to the login.

const [url, api, token] = process.argv.slice(2);
let delay = 1000;

function connect() {
  const socket = new WebSocket(`${url}?token=${token}`);
  let opened = false;
  socket.onopen = () => {
    opened = true;
    delay = 1000;
    console.log("connected");
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    // Changed: was `message.text`.
    console.log(`Notification: ${message.title}`);
  };
  socket.onerror = () => {};
  socket.onclose = async ({ code }) => {
    console.log(`closed: ${code}`);
    // Changed: was `const unauthorized = code === 4001 || code === 4002;`.
    const unauthorized = !opened && (await refused());
    if (unauthorized) return console.log("location: /login");
    setTimeout(connect, delay);
    delay = Math.min(delay * 2, 30000);
  };
}

// Changed: this function is new. A browser does not tell why a handshake failed; an answer over HTTP does.
async function refused() {
  const headers = { Authorization: `Bearer ${token}` };
  const { status } = await fetch(`${api}alerts?region=ALL&limit=1`, { headers }).catch(() => ({ status: 0 }));
  return status === 401 || status === 403;
}

connect();
