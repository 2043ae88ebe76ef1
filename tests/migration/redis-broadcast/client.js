// The page's class for toasts of new trending videos.

class TrendingAlerts {
  constructor(url, showToast) {
    this.url = url;
    this.showToast = showToast;
    this.delay = 1000;
    this.connect();
  }

  connect() {
    this.ws = new WebSocket(this.url);
    this.ws.onopen = () => {
      this.delay = 1000;
      console.log("connected");
    };
    this.ws.onmessage = (e) => {
      const message = JSON.parse(e.data);
      if (message.event === "new_trending") {
        this.showToast(`New in ${message.region}`, message.title, message);
      }
    };
    this.ws.onerror = () => this.ws.close();
    this.ws.onclose = () => {
      setTimeout(() => this.connect(), this.delay);
      this.delay = Math.min(this.delay * 2, 30000);
    };
  }
}

new TrendingAlerts(process.argv[2], (heading, title, message) => {
  console.log(heading, title);
  console.log(JSON.stringify(message));
});
