//! The texts for one client, in their order. A sender writes its text at once if the socket takes it. If not, the text
//! waits for the task of the socket. So most texts wake no other task.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_util::{Sink, SinkExt};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::{
    backlog::{Backlog, BacklogBounds, BacklogEntry},
    limits::SEND_TIMEOUT,
};

/// Where the frames of one socket are written.
pub(super) type FrameSink = Pin<Box<dyn Sink<Message, Error = Error> + Send>>;

/// Why a text was not sent to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// The connection is not open.
    Gone,
    /// Too much waits for the client.
    BufferFull,
}

/// Makes the queue of one client. Its texts count towards [`BacklogBounds::OUTBOUND`], for this client and for `all`.
pub(crate) fn outbound(all: &Arc<Backlog>) -> (OutboundSender, OutboundReceiver) {
    let line = Arc::<Mutex<Line>>::default();
    let sender = OutboundSender { line: Arc::clone(&line), own: Arc::default(), all: Arc::clone(all) };
    (sender, OutboundReceiver { line, sink: None, senders_write: false })
}

/// What is on its way to one client.
#[derive(Default)]
struct Line {
    /// Texts that nobody has begun to write.
    waiting: VecDeque<(Utf8Bytes, BacklogEntry)>,
    /// Where senders may write.
    sink: Option<FrameSink>,
    /// Whether a sender has written a part of a text.
    has_begun: bool,
    /// When a sender last wrote a text.
    written_at: Option<Instant>,
    /// The task of the socket, while it waits for texts.
    task: Option<Waker>,
    is_closed: bool,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

/// How far a sender came with a text.
enum Written {
    Whole,
    /// The socket has a part, and the rest is in the sink.
    Begun,
    Not(Utf8Bytes),
}

impl Line {
    /// Writes a text as far as the socket takes it now, unless others come before it.
    fn write(&mut self, text: Utf8Bytes, note: impl FnOnce(&Utf8Bytes)) -> Written {
        let is_next = !self.has_begun && self.waiting.is_empty();
        let Some(sink) = self.sink.as_mut().filter(|_| is_next) else { return Written::Not(text) };
        // A sender does not wait for the socket: its task does, and asks again.
        let mut cx = Context::from_waker(Waker::noop());
        if !matches!(sink.poll_ready_unpin(&mut cx), Poll::Ready(Ok(()))) {
            return Written::Not(text);
        }
        note(&text);
        self.written_at = Some(Instant::now());
        let flushed = match sink.start_send_unpin(Message::Text(text)) {
            Ok(()) => sink.poll_flush_unpin(&mut cx),
            Err(error) => Poll::Ready(Err(error)),
        };
        match flushed {
            Poll::Ready(Ok(())) => Written::Whole,
            // The task meets an error again, and ends the socket.
            Poll::Ready(Err(_)) | Poll::Pending => Written::Begun,
        }
    }
}

/// Where texts for a client are sent.
#[derive(Debug)]
pub(crate) struct OutboundSender {
    line: Arc<Mutex<Line>>,
    own: Arc<Backlog>,
    all: Arc<Backlog>,
}

impl OutboundSender {
    /// Writes a text, or queues it unless too much waits. `note` is called when it is written here.
    pub(super) fn send(&self, text: Utf8Bytes, note: impl FnOnce(&Utf8Bytes)) -> Result<(), SendError> {
        let mut line = lock(&self.line);
        if line.is_closed {
            return Err(SendError::Gone);
        }
        match line.write(text, note) {
            Written::Whole => return Ok(()),
            Written::Begun => line.has_begun = true,
            Written::Not(text) => {
                let entry = self.own.add(&self.all, BacklogBounds::OUTBOUND, text.len());
                line.waiting.push_back((text, entry.ok_or(SendError::BufferFull)?));
            }
        }
        let task = line.task.take();
        drop(line);
        task.into_iter().for_each(Waker::wake);
        Ok(())
    }
}

/// What the task of a socket has to write.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// A text of which nothing was written.
    Text(Utf8Bytes),
    /// What the sink has: what is left of a text that a sender has begun to write, or the answer to a ping.
    Rest,
}

/// Why a text was not written, or not wholly.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotWritten<E> {
    /// The client does not take it.
    Lost,
    /// The socket has to end.
    Ended(E),
}

/// Where the task of a socket takes the texts from. Dropping it drops those that wait.
pub(crate) struct OutboundReceiver {
    line: Arc<Mutex<Line>>,
    /// Where the task writes, while senders may not.
    sink: Option<FrameSink>,
    senders_write: bool,
}

impl fmt::Debug for OutboundReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundReceiver").field("line", &self.line).finish_non_exhaustive()
    }
}

impl OutboundReceiver {
    /// Says where the texts are written, and whether senders may do that themselves.
    pub(super) fn attach(&mut self, sink: FrameSink, senders_write: bool) {
        self.senders_write = senders_write;
        if senders_write {
            lock(&self.line).sink = Some(sink);
        } else {
            self.sink = Some(sink);
        }
    }

    /// Waits until there is something to write. From then on no sender writes until that is written.
    pub(super) async fn outgoing(&mut self) -> Outgoing {
        let (outgoing, sink) = poll_fn(|cx| {
            let mut line = lock(&self.line);
            let outgoing = match line.has_begun {
                true => Some(Outgoing::Rest),
                false => line.waiting.pop_front().map(|(text, _)| Outgoing::Text(text)),
            };
            match outgoing {
                Some(outgoing) => Poll::Ready((outgoing, line.sink.take())),
                None => wait(&mut line, cx),
            }
        })
        .await;
        self.sink = sink.or_else(|| self.sink.take());
        outgoing
    }

    /// Writes a text, or the rest of one, unless `end` comes first: then the sink has the text, and writes it before a
    /// close frame. The client has [`SEND_TIMEOUT`] to take it.
    pub(super) async fn write_until<E>(
        &mut self,
        outgoing: Outgoing,
        end: impl Future<Output = E>,
    ) -> Result<(), NotWritten<E>> {
        tokio::select! {
            // First, so that the sink has the text whatever happens.
            biased;
            written = timeout(SEND_TIMEOUT, self.write(outgoing)) => match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(NotWritten::Lost),
            },
            end = end => Err(NotWritten::Ended(end)),
        }
    }

    async fn write(&mut self, outgoing: Outgoing) -> Result<(), Error> {
        let sink = self.sink.as_mut().ok_or(Error::AlreadyClosed)?;
        match outgoing {
            Outgoing::Text(text) => sink.send(Message::Text(text)).await?,
            Outgoing::Rest => {
                sink.flush().await?;
                lock(&self.line).has_begun = false;
            }
        }
        if self.senders_write {
            lock(&self.line).sink = self.sink.take();
        }
        Ok(())
    }

    /// Takes the answer to a ping, which the sink has, for something that is left to write. From here on no sender
    /// writes until that is written. So a client that pings and does not read has one answer waiting.
    pub(super) fn pong(&mut self) -> Outgoing {
        let mut line = lock(&self.line);
        self.sink = line.sink.take().or_else(|| self.sink.take());
        Outgoing::Rest
    }

    /// When a sender last wrote a text.
    pub(super) fn written_at(&self) -> Option<Instant> {
        lock(&self.line).written_at
    }

    /// Waits for the next text.
    pub(crate) async fn recv(&mut self) -> Utf8Bytes {
        poll_fn(|cx| {
            let mut line = lock(&self.line);
            match line.waiting.pop_front() {
                Some((text, _)) => Poll::Ready(text),
                None => wait(&mut line, cx),
            }
        })
        .await
    }

    /// Takes the next text, if one waits.
    pub(crate) fn try_recv(&mut self) -> Option<Utf8Bytes> {
        lock(&self.line).waiting.pop_front().map(|(text, _)| text)
    }

    /// The number of texts that wait.
    pub(crate) fn len(&self) -> usize {
        lock(&self.line).waiting.len()
    }

    /// Accepts no more texts. Those that wait can still be taken. Returns where they are written.
    pub(crate) fn close(&mut self) -> Option<FrameSink> {
        let mut line = lock(&self.line);
        line.is_closed = true;
        line.sink.take().or_else(|| self.sink.take())
    }
}

impl Drop for OutboundReceiver {
    fn drop(&mut self) {
        self.close();
        lock(&self.line).waiting.clear();
    }
}

/// Has the task woken when something was sent.
fn wait<T>(line: &mut Line, cx: &Context<'_>) -> Poll<T> {
    match &mut line.task {
        Some(task) => task.clone_from(cx.waker()),
        None => line.task = Some(cx.waker().clone()),
    }
    Poll::Pending
}

/// Ignores poisoning: no panic leaves a line half changed.
fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt, stream::SplitStream};
    use tokio::io::DuplexStream;
    use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

    use super::*;

    type Socket = WebSocketStream<DuplexStream>;

    /// Bytes that a socket takes from which nobody reads.
    const SOCKET_BYTES: usize = 1_000;

    /// A queue whose texts are written to a client that reads when it is told to.
    async fn to_a_client(senders_write: bool) -> (OutboundSender, OutboundReceiver, Socket) {
        let (sender, receiver, _, client) = to_a_client_that_may_send(senders_write).await;
        (sender, receiver, client)
    }

    /// The same, and what the client sends.
    async fn to_a_client_that_may_send(
        senders_write: bool,
    ) -> (OutboundSender, OutboundReceiver, SplitStream<Socket>, Socket) {
        let (server, client) = tokio::io::duplex(SOCKET_BYTES);
        let server = WebSocketStream::from_raw_socket(server, Role::Server, None).await;
        let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let (sender, mut receiver) = outbound(&Arc::default());
        let (frames, incoming) = server.split();
        receiver.attach(Box::pin(frames), senders_write);
        (sender, receiver, incoming, client)
    }

    /// The next text that the client has got.
    async fn read(client: &mut Socket) -> String {
        loop {
            if let Message::Text(text) = client.next().await.expect("open").expect("a frame") {
                return text.to_string();
            }
        }
    }

    /// A text that says which it is, of more bytes than the socket takes.
    fn large(n: usize) -> String {
        format!("{n}{}", "x".repeat(3 * SOCKET_BYTES))
    }

    #[tokio::test]
    async fn a_sender_writes_what_the_socket_takes_and_wakes_nobody() {
        let (sender, mut receiver, mut client) = to_a_client(true).await;
        let mut noted = Vec::new();
        for text in ["a", "b"] {
            assert_eq!(sender.send(text.into(), |text| noted.push(text.to_string())), Ok(()));
            assert_eq!(read(&mut client).await, text);
        }
        assert_eq!(noted, ["a", "b"]);
        assert!(receiver.outgoing().now_or_never().is_none() && receiver.written_at().is_some());
    }

    #[tokio::test]
    async fn texts_beyond_what_the_socket_takes_are_written_by_its_task_whole_and_in_order() {
        let (sender, mut receiver, mut client) = to_a_client(true).await;
        let texts: Vec<String> = (0..5).map(large).collect();
        let mut written_by_sender = 0;
        for text in &texts {
            assert_eq!(sender.send(text.into(), |_| written_by_sender += 1), Ok(()));
        }
        assert_eq!((written_by_sender, receiver.len()), (1, 4), "the first was begun, and the others come after it");
        let task = async {
            assert!(matches!(receiver.outgoing().await, Outgoing::Rest));
            receiver.write(Outgoing::Rest).await.expect("open");
            for expected in &texts[1..] {
                match receiver.outgoing().await {
                    Outgoing::Text(text) => {
                        assert_eq!(text.as_str(), expected);
                        receiver.write(Outgoing::Text(text)).await.expect("open");
                    }
                    Outgoing::Rest => panic!("nobody has begun another"),
                }
            }
        };
        let client_reads = async {
            for expected in &texts {
                assert_eq!(&read(&mut client).await, expected);
            }
        };
        tokio::join!(task, client_reads);
        sender.send("after".into(), |_| written_by_sender += 1).expect("open");
        assert_eq!((read(&mut client).await.as_str(), written_by_sender), ("after", 2), "senders write again");
    }

    #[tokio::test]
    async fn while_its_task_writes_no_sender_does() {
        let (sender, mut receiver, mut client) = to_a_client(true).await;
        sender.send(large(0).into(), |_| {}).expect("open");
        let outgoing = receiver.outgoing().await;
        sender.send("1".into(), |_| panic!("written by the sender")).expect("open");
        let (written, first) = tokio::join!(receiver.write(outgoing), read(&mut client));
        written.expect("open");
        assert_eq!(first, large(0));
        // One still waits, and comes before the next.
        sender.send("2".into(), |_| panic!("written by the sender")).expect("open");
        for expected in ["1", "2"] {
            let outgoing = receiver.outgoing().await;
            receiver.write(outgoing).await.expect("open");
            assert_eq!(read(&mut client).await, expected);
        }
    }

    #[tokio::test]
    async fn where_senders_do_not_write_the_task_is_woken_for_each_text() {
        let (sender, mut receiver, mut client) = to_a_client(false).await;
        let task = tokio::spawn(async move {
            for _ in 0..2 {
                let outgoing = receiver.outgoing().await;
                receiver.write(outgoing).await.expect("open");
            }
        });
        for text in ["a", "b"] {
            sender.send(text.into(), |_| panic!("written by the sender")).expect("open");
            assert_eq!(read(&mut client).await, text);
        }
        task.await.expect("written");
    }

    #[tokio::test]
    async fn a_closed_queue_takes_nothing_and_gives_what_waits_and_where_it_is_written() {
        let (sender, mut receiver, mut client) = to_a_client(true).await;
        for n in 0..3 {
            sender.send(large(n).into(), |_| {}).expect("open");
        }
        let mut frames = receiver.close().expect("nobody else writes");
        assert_eq!(sender.send("late".into(), |_| panic!("written")), Err(SendError::Gone));
        let rest = async {
            while let Some(text) = receiver.try_recv() {
                frames.send(Message::Text(text)).await.expect("open");
            }
        };
        let client_reads = async {
            for n in 0..3 {
                assert_eq!(read(&mut client).await, large(n));
            }
        };
        tokio::join!(rest, client_reads);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_senders_at_once_lose_nothing_and_keep_the_order_of_each() {
        const SENDERS: usize = 4;
        const TEXTS: usize = 500;
        let (sender, mut receiver, mut incoming, mut client) = to_a_client_that_may_send(true).await;
        let task = tokio::spawn(async move {
            loop {
                // Pings are answered on the same socket.
                tokio::select! {
                    outgoing = receiver.outgoing() => receiver.write(outgoing).await.expect("open"),
                    ping = incoming.next() => drop(ping.expect("open")),
                }
            }
        });
        let sender = Arc::new(sender);
        for from in 0..SENDERS {
            let sender = Arc::clone(&sender);
            tokio::spawn(async move {
                for n in 0..TEXTS {
                    // Some are larger than what the socket takes.
                    let text: Utf8Bytes = format!("{from} {n} {}", "x".repeat(n * 7 % 1_500)).into();
                    while sender.send(text.clone(), |_| {}) == Err(SendError::BufferFull) {
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
        let mut next = [0; SENDERS];
        for read_before in 0..SENDERS * TEXTS {
            if read_before % 20 == 0 {
                client.send(Message::Ping("p".into())).await.expect("open");
            }
            let text = tokio::time::timeout(std::time::Duration::from_secs(30), read(&mut client)).await;
            let text = text.expect("in time");
            let mut words = text.split(' ').map(|word| word.parse::<usize>());
            let (from, n) = (words.next(), words.next());
            let (Some(Ok(from)), Some(Ok(n))) = (from, n) else { panic!("{text:?}") };
            assert_eq!(n, next[from], "of sender {from}");
            next[from] += 1;
        }
        task.abort();
    }

    #[tokio::test]
    async fn a_text_that_was_taken_from_the_queue_comes_before_the_end_of_the_socket() {
        for outgoing_of in [Outgoing::Text("small".into()), Outgoing::Text(large(0).into())] {
            let (_sender, mut receiver, mut client) = to_a_client(false).await;
            let Outgoing::Text(text) = &outgoing_of else { unreachable!("texts alone") };
            let expected = text.to_string();
            let is_whole = expected.len() < SOCKET_BYTES;
            // Chosen at random, the end would win every second time.
            let written = receiver.write_until(outgoing_of, std::future::ready("closed")).await;
            assert_eq!(written, if is_whole { Ok(()) } else { Err(NotWritten::Ended("closed")) });
            let mut frames = receiver.close().expect("given back");
            let closing = frames.send(Message::Close(None));
            let (closed, first) = tokio::join!(closing, read(&mut client));
            closed.expect("open");
            assert_eq!(first, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_pings_and_does_not_read_has_one_answer_waiting_and_is_lost_in_the_end() {
        let (_sender, mut receiver, mut incoming, mut client) = to_a_client_that_may_send(true).await;
        let pings = tokio::spawn(async move { while client.send(Message::Ping(vec![0; 100].into())).await.is_ok() {} });
        let mut answered = 0;
        let lost = loop {
            assert!(answered < 100, "it is not read on while its answers wait");
            incoming.next().await.expect("open").expect("a ping");
            let pong = receiver.pong();
            match receiver.write_until(pong, std::future::pending::<()>()).await {
                Ok(()) => answered += 1,
                Err(end) => break end,
            }
        };
        assert_eq!(lost, NotWritten::Lost);
        assert!(answered >= SOCKET_BYTES / 200, "those that the socket takes: {answered}");
        pings.abort();
    }

    #[tokio::test]
    async fn a_sender_that_meets_a_lost_client_leaves_that_to_the_task() {
        let (sender, mut receiver, client) = to_a_client(true).await;
        drop(client);
        let _ = sender.send("a".into(), |_| {});
        let outgoing = receiver.outgoing().await;
        receiver.write(outgoing).await.expect_err("the client is lost");
    }
}
