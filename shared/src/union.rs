//! The union of audiences, without duplicates: a streaming merge of sequences that have the same order.

use futures_util::{
    Stream, TryStreamExt,
    stream::{self, Peekable},
};
use std::pin::Pin;

use crate::{connection::Slot, error::Failure, subscriptions::Member};

type Members<'a> = Peekable<Pin<Box<dyn Stream<Item = Result<Member, Failure>> + Send + 'a>>>;

/// Merges `first` and `second`, each in ascending order of slots and without repetition, into one such sequence. A
/// connection that is in both appears once, as `first` has it. Holds one item of each in memory.
pub fn of<'a>(
    first: impl Stream<Item = Result<Member, Failure>> + Send + 'a,
    second: impl Stream<Item = Result<Member, Failure>> + Send + 'a,
) -> impl Stream<Item = Result<Member, Failure>> + Send + 'a {
    stream::try_unfold((peekable(first), peekable(second)), |(mut first, mut second)| async move {
        let (Some(a), Some(b)) = (head(&mut first).await?, head(&mut second).await?) else {
            let last = match first.try_next().await? {
                Some(member) => Some(member),
                None => second.try_next().await?,
            };
            return Ok(last.map(|member| (member, (first, second))));
        };
        let next = if a <= b { first.try_next().await? } else { second.try_next().await? };
        if a == b {
            second.try_next().await?;
        }
        Ok(next.map(|member| (member, (first, second))))
    })
}

fn peekable<'a>(members: impl Stream<Item = Result<Member, Failure>> + Send + 'a) -> Members<'a> {
    use futures_util::StreamExt;
    let boxed: Pin<Box<dyn Stream<Item = _> + Send + 'a>> = Box::pin(members);
    boxed.peekable()
}

/// The slot of the next member. A failure is taken out of the stream and returned.
async fn head(members: &mut Members<'_>) -> Result<Option<Slot>, Failure> {
    match Pin::new(&mut *members).peek().await {
        None => Ok(None),
        Some(Ok(member)) => Ok(Some(Slot::of(&member.connection))),
        Some(Err(_)) => members.try_next().await.map(|_| None),
    }
}
