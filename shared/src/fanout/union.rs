//! The union of audiences, without duplicates: a streaming merge of sequences that have the same order.

use std::pin::Pin;

use futures_util::{
    Stream, StreamExt, TryStreamExt,
    stream::{self, Peekable},
};

use crate::{
    error::InternalError,
    model::{connection::Slot, member::Member},
};

type Members<'a> = Peekable<Pin<Box<dyn Stream<Item = Result<Member, InternalError>> + Send + 'a>>>;

/// Merges `first` and `second`, each in ascending order of slots and without repetition, into one such sequence. A
/// connection that is in both appears once, as `first` has it. Holds one item of each in memory.
pub(super) fn of<'a>(
    first: impl Stream<Item = Result<Member, InternalError>> + Send + 'a,
    second: impl Stream<Item = Result<Member, InternalError>> + Send + 'a,
) -> impl Stream<Item = Result<Member, InternalError>> + Send + 'a {
    stream::try_unfold((peekable(first), peekable(second)), |(mut first, mut second)| async move {
        let b = head(&mut second).await?;
        // Mostly nobody watches all regions, and then nothing is compared.
        let a = if b.is_some() { head(&mut first).await? } else { None };
        let (Some(a), Some(b)) = (a, b) else {
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

fn peekable<'a>(members: impl Stream<Item = Result<Member, InternalError>> + Send + 'a) -> Members<'a> {
    let boxed: Pin<Box<dyn Stream<Item = _> + Send + 'a>> = Box::pin(members);
    boxed.peekable()
}

/// The slot of the next member. A failure is taken out of the stream and returned.
async fn head(members: &mut Members<'_>) -> Result<Option<Slot>, InternalError> {
    match Pin::new(&mut *members).peek().await {
        None => Ok(None),
        Some(Ok(member)) => Ok(Some(Slot::of(&member.connection))),
        Some(Err(_)) => members.try_next().await.map(|_| None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clock::Timestamp;
    use futures_util::{FutureExt, stream::iter};
    use proptest::prelude::*;

    use super::*;
    use crate::model::alert::Format;

    /// Members by slot, as a table keeps them.
    fn audience(numbers: &[u8], format: Format) -> BTreeMap<Slot, Member> {
        let member = |number: &u8| {
            let connection = format!("connection-{number}").parse().expect("an id");
            (Slot::of(&connection), Member { connection, format, since: Timestamp::from_millis(0) })
        };
        numbers.iter().map(member).collect()
    }

    fn members(audience: &BTreeMap<Slot, Member>) -> Vec<Result<Member, InternalError>> {
        audience.values().cloned().map(Ok).collect()
    }

    fn collect(
        first: Vec<Result<Member, InternalError>>,
        second: Vec<Result<Member, InternalError>>,
    ) -> Result<Vec<Member>, InternalError> {
        of(iter(first), iter(second)).try_collect().now_or_never().expect("nothing here waits")
    }

    proptest! {
        #[test]
        fn everyone_appears_once_in_order_and_as_the_first_audience_has_them(first: Vec<u8>, second: Vec<u8>) {
            let first = audience(&first, Format::ViralAlert);
            let second = audience(&second, Format::NewTrending);
            let mut expected = second.clone();
            expected.extend(first.clone());
            let expected: Vec<Member> = expected.into_values().collect();
            prop_assert_eq!(collect(members(&first), members(&second)).expect("no failure"), expected);
        }

        #[test]
        fn a_failure_of_either_side_is_not_swallowed(
            first: Vec<u8>,
            second: Vec<u8>,
            at: prop::sample::Index,
            of_first: bool,
        ) {
            let side = |hashes: &[u8]| members(&audience(hashes, Format::ViralAlert));
            let mut sides = [side(&first), side(&second)];
            let side = &mut sides[usize::from(!of_first)];
            let at = at.index(side.len() + 1);
            side.insert(at, Err(InternalError::new("reading", "page lost")));
            let [first, second] = sides;
            prop_assert!(collect(first, second).is_err());
        }
    }
}
