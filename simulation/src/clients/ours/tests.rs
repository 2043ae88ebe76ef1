use serde_json::json;

use super::*;

const EPOCH: u64 = 1_795_000_000_000;
/// What the service takes to answer, in milliseconds.
const LATENCY_MS: u64 = 10;

/// A client in its page, and the time.
struct Page {
    client: OurClient,
    now: u64,
    /// What the client did since that was asked last.
    done: Vec<Output>,
}

impl Page {
    fn new(options: Options, regions: &[&str]) -> Self {
        let regions: Vec<String> = regions.iter().map(|region| (*region).to_owned()).collect();
        let client = OurClient::new(options, &regions, &BTreeMap::new(), 0);
        let mut page = Self { client, now: 0, done: Vec::new() };
        page.happens(Input::Start);
        page
    }

    fn happens(&mut self, input: Input) {
        let done = self.client.handle(self.now, input);
        self.done.extend(done);
    }

    /// Lets time pass, with its timers.
    fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(due) = self.client.next_timer().filter(|due| *due <= end) {
            self.now = due;
            self.happens(Input::Timer);
        }
        self.now = end;
    }

    fn receives(&mut self, socket: u32, frame: &Value) {
        self.happens(Input::Frame { socket, text: frame.to_string() });
    }

    /// A page whose first connection is subscribed to `regions`, with the logs at `seq`.
    fn open(options: Options, regions: &[&str], seq: u64) -> Self {
        let mut page = Self::new(options, regions);
        page.happens(Input::Opened { socket: 1 });
        page.pass(LATENCY_MS);
        page.receives(1, &subscribed(regions, seq, &json!({})));
        assert!(page.client.is_open());
        page.done.clear();
        page
    }

    /// What was sent since that was asked last, in short.
    fn sent(&mut self) -> Vec<String> {
        let short = |output: Output| match output {
            Output::Connect { socket } => Some(format!("connect {socket}")),
            Output::Close { socket } => Some(format!("close {socket}")),
            Output::Get { query, .. } => Some(format!("get {query}")),
            Output::Send { socket, text } => {
                let message: Value = serde_json::from_str(&text).expect("JSON");
                let since = message.get("since").map(|since| format!(" since {since}")).unwrap_or_default();
                let regions = message.get("regions").map(|regions| format!(" {regions}")).unwrap_or_default();
                Some(format!("{socket} {}{regions}{since}", message["type"].as_str().expect("a type")).replace('"', ""))
            }
            Output::Tell(_) => None,
        };
        std::mem::take(&mut self.done).into_iter().filter_map(short).collect()
    }

    fn told(&mut self) -> Vec<String> {
        let short = |output: Output| match output {
            Output::Tell(Told::Alert(Logged { region, seq, .. })) => Some(format!("{region} {seq}")),
            Output::Tell(Told::Removed(Logged { region, seq, .. })) => Some(format!("{region} removed {seq}")),
            Output::Tell(Told::Gap { region, from, to }) => Some(format!("{region} gap {from} {to:?}")),
            Output::Tell(Told::Error { code, .. }) => Some(code),
            _ => None,
        };
        std::mem::take(&mut self.done).into_iter().filter_map(short).collect()
    }
}

fn alert(region: &str, seq: u64) -> Value {
    json!({"type": "viral_alert", "region": region, "epoch": EPOCH, "seq": seq, "id": "i"})
}

fn subscribed(regions: &[&str], seq: u64, more: &Value) -> Value {
    let positions: Map<String, Value> =
        regions.iter().map(|region| ((*region).to_owned(), json!({"epoch": EPOCH, "seq": seq}))).collect();
    let mut answer = json!({"type": "subscribed", "regions": regions, "positions": positions});
    for (field, value) in more.as_object().into_iter().flatten() {
        answer[field] = value.clone();
    }
    answer
}

#[test]
fn random_numbers_are_those_of_the_real_clients_tests() {
    // Of `randomOf` in client/test/seeded.js.
    assert_eq!(draw(7, 1_795_000_000_010), 0.188_084_809_808_060_53);
    assert_eq!(draw(u32::MAX, 5), 0.923_636_197_112_500_7);
}

#[test]
fn a_missing_alert_is_asked_for_after_half_a_second_then_with_doubling_pauses_and_is_a_gap_in_the_end() {
    let mut page = Page::open(Options::default(), &["PL"], 1);
    page.receives(1, &alert("PL", 3));
    for pause in [500, 1_000, 2_000, 4_000, 8_000] {
        page.pass(pause - 1);
        assert_eq!(page.sent(), [""; 0], "before {pause} ms");
        page.pass(1);
        assert_eq!(page.sent(), [format!("1 subscribe_region [PL] since {{PL:{{epoch:{EPOCH},seq:1}}}}")]);
        page.receives(1, &subscribed(&["PL"], 3, &json!({"alerts": []})));
    }
    assert_eq!(page.told(), ["PL gap 2 Some(2)", "PL 3"]);
}

#[test]
fn a_client_that_comes_back_asks_from_its_position_and_fetches_what_an_answer_does_not_recover() {
    let mut page = Page::open(Options { http: true, ..Options::default() }, &["PL"], 1);
    page.happens(Input::Closed { socket: 1, code: 1006 });
    page.pass(5_000);
    assert_eq!(page.sent(), ["connect 2"]);
    page.happens(Input::Opened { socket: 2 });
    assert_eq!(page.sent(), [format!("2 subscribe_region [PL] since {{PL:{{epoch:{EPOCH},seq:1}}}}")]);
    page.receives(2, &subscribed(&["PL"], 4, &json!({"alerts": [], "not_recovered": ["PL"]})));
    assert_eq!(page.sent(), ["get region=PL&after=PL.mwm0nk74.1"]);
    let body = |seq, more| {
        let positions = json!({"PL": {"epoch": EPOCH, "seq": seq}});
        json!({"positions": positions, "alerts": [alert("PL", seq)], "more": more})
    };
    page.happens(Input::Http { id: 1, status: 200, body: body(2, true).to_string() });
    assert_eq!(page.sent(), ["get region=PL&after=PL.mwm0nk74.2"]);
    page.happens(Input::Http { id: 2, status: 200, body: body(3, false).to_string() });
    assert_eq!(page.told(), ["PL 3"]);
}

#[test]
fn a_connection_is_replaced_only_once_the_next_one_is_subscribed() {
    let options = Options { rotate_after_ms: Some(60_000), ..Options::default() };
    let mut page = Page::open(options, &["PL"], 1);
    page.pass(60_000);
    assert_eq!(page.sent(), ["connect 2"]);
    page.happens(Input::Opened { socket: 2 });
    page.done.clear();
    page.receives(1, &alert("PL", 2));
    assert_eq!(page.told(), ["PL 2"]);
    page.receives(2, &subscribed(&["PL"], 2, &json!({"alerts": []})));
    assert_eq!(page.sent(), ["close 1"]);
}

#[test]
fn a_keepalive_finds_what_differs() {
    let mut page = Page::open(Options::default(), &["PL", "DE"], 1);
    page.pass(KEEPALIVE_MS - LATENCY_MS);
    let since = |region: &str| format!("{region}:{{epoch:{EPOCH},seq:1}}");
    assert_eq!(page.sent(), [format!("1 keepalive [PL,DE] since {{{},{}}}", since("DE"), since("PL"))]);
    page.receives(1, &json!({"type": "kept", "behind": ["DE"]}));
    assert_eq!(page.sent(), [format!("1 subscribe_region [DE] since {{{}}}", since("DE"))]);
}

#[test]
fn a_peer_that_does_not_answer_for_15_seconds_is_left() {
    let mut page = Page::new(Options::default(), &["PL"]);
    page.happens(Input::Opened { socket: 1 });
    page.done.clear();
    page.pass(ANSWER_MS - 1);
    // Alerts are no answer.
    page.receives(1, &alert("PL", 1));
    page.pass(1);
    assert_eq!(page.sent(), ["close 1"]);
}

#[test]
fn after_1008_nothing_shortens_the_wait_and_after_1012_the_window_is_wide() {
    let mut page = Page::open(Options::default(), &["PL"], 1);
    page.happens(Input::Closed { socket: 1, code: 1008 });
    page.pass(59_999);
    page.happens(Input::Wake);
    assert_eq!(page.sent(), [""; 0]);
    page.pass(5_001);
    assert_eq!(page.sent(), ["connect 2"]);

    let mut page = Page::open(Options::default(), &["PL"], 1);
    page.happens(Input::Closed { socket: 1, code: 1012 });
    let wait = draw(0, page.now) * RESTART_WITHIN_MS;
    assert_eq!(page.client.next_timer(), Some(page.now + wait as u64));
}

#[test]
fn a_refused_region_does_not_hold_up_the_others() {
    let mut page = Page::new(Options::default(), &["PL", "DE"]);
    page.happens(Input::Opened { socket: 1 });
    page.done.clear();
    let refusal = json!({"type": "error", "code": "forbidden", "retryable": false});
    page.receives(1, &refusal);
    assert_eq!(page.sent(), ["1 subscribe_region [PL]"]);
    page.receives(1, &refusal);
    assert_eq!(page.client.followed(), ["DE"]);
    assert_eq!(page.told(), ["forbidden"]);
    page.receives(1, &subscribed(&["DE"], 0, &json!({})));
    assert!(page.client.is_open());
}

#[test]
fn what_reaches_everyone_is_told_once_and_not_after_its_removal() {
    let mut page = Page::open(Options::default(), &["PL"], 1);
    let mut everyone = alert("FR", 9);
    everyone["everyone"] = json!(true);
    let removal = |seq| json!({"type": "alert_removed", "region": "FR", "epoch": EPOCH, "seq": seq, "id": "i"});
    page.receives(1, &everyone);
    page.receives(1, &everyone);
    page.receives(1, &removal(9));
    page.receives(1, &everyone);
    page.receives(1, &removal(8));
    assert_eq!(page.told(), ["FR 9", "FR removed 9"]);
}

#[test]
fn a_region_without_a_log_keeps_its_beginning_when_all_is_left() {
    let mut page = Page::open(Options::default(), &["PL", "ALL"], 1);
    page.happens(Input::Unwatch("ALL".to_owned()));
    page.happens(Input::Watch("DE".to_owned()));
    page.done.clear();
    page.receives(1, &json!({"type": "unsubscribed", "regions": ["ALL"]}));
    assert!(page.sent()[0].contains("PL:"), "PL goes on where ALL stood");
}

#[test]
fn a_401_of_the_service_ends_the_client() {
    let mut page = Page::open(Options { http: true, ..Options::default() }, &["PL"], 1);
    page.receives(1, &alert("PL", 3));
    page.pass(500);
    page.receives(1, &subscribed(&["PL"], 3, &json!({"alerts": [], "not_recovered": ["PL"]})));
    let body = json!({"error": {"code": "unauthorized"}}).to_string();
    page.happens(Input::Http { id: 1, status: 401, body });
    assert!(page.done.contains(&Output::Tell(Told::Error { code: "unauthorized".to_owned(), terminal: true })));
    assert_eq!(page.done.last(), Some(&Output::Tell(Told::State(State::Closed))));
    assert_eq!(page.client.next_timer(), None);
}
