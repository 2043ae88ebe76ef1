import { createApp } from "vue";
import Alerts from "./Alerts.vue";

const { VITE_URL = "ws://127.0.0.1:8765/prod", VITE_HTTP_URL = "http://127.0.0.1:8766" } = import.meta.env;

createApp(Alerts, { url: VITE_URL, httpUrl: VITE_HTTP_URL }).mount("#app");
