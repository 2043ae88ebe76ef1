// The page's class for toasts of one region.

class RegionAlerts {
  constructor(host, region) {
    this.url = `${host}?region=${region}`;
    this.delay = 1000;
    this.connect();
  }

  connect() {
    this.socket = new WebSocket(this.url);
    this.socket.addEventListener("open", () => {
      this.delay = 1000;
      console.log("connected");
    });
    this.socket.addEventListener("message", (event) => this.toast(JSON.parse(event.data)));
    this.socket.addEventListener("error", () => {});
    this.socket.addEventListener("close", () => {
      setTimeout(() => this.connect(), this.delay);
      this.delay = Math.min(this.delay * 2, 30000);
    });
  }

  toast({ title, channel, rtl }) {
    console.log(`<div class="toast"${rtl ? ' dir="rtl"' : ""}><b>${title}</b> ${channel}</div>`);
  }
}

const [host, region] = process.argv.slice(2);
new RegionAlerts(host, region);
