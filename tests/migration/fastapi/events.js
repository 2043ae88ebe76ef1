// The page's stream of events, where WebSockets fail.  events.js http://host:8000/events

const source = new EventSource(process.argv[2]);
source.onopen = () => console.log("open");
source.onmessage = ({ data }) => {
  const message = JSON.parse(data);
  // Changed: was `message.text`.
  console.log(`Event: ${message.video.title}`);
};
source.onerror = () => {
  if (source.readyState === EventSource.CLOSED) console.log("closed, log in again");
};
