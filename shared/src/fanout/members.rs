//! Reading who shall have it: a survey of the audience first, and then the members of one part, page by page.

use std::{future::ready, sync::Arc};

use futures_util::{
    Stream, StreamExt, TryStreamExt,
    future::try_join,
    stream::{self, BoxStream},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    error::InternalError,
    fanout::{
        content::Content,
        plan,
        services::{Fanout, Services},
        task::FanoutPart,
        union,
    },
    model::{
        alert::Format,
        audience::Audience,
        connection::{Slot, SlotRange},
        member::{AudiencePage, Member},
    },
};

/// What is read of the audience before the fan-out is divided.
pub(super) struct Survey {
    pub(super) estimate: u64,
    /// The pages that were read: of the region, or everyone, and of those who watch all regions.
    pages: [AudiencePage; 2],
}

impl Survey {
    /// Where both pages together hold the audience: everywhere, if it is so small, and else up to the first hash that
    /// might go on after a page.
    pub(super) fn range(&self) -> Option<SlotRange> {
        let ends = self.pages.iter().filter_map(|page| page.next.as_ref());
        match ends.map(Slot::hash).min() {
            None => Some(SlotRange::WHOLE),
            Some(end) => end.checked_sub(1).map(|last| SlotRange { first: 0, last }),
        }
    }

    /// The members within a range that both pages hold, and that begins where they do.
    pub(super) fn members(self, range: SlotRange) -> [AudiencePage; 2] {
        self.pages.map(|AudiencePage { mut members, .. }| {
            let count = members.partition_point(|member| Slot::of(&member.connection).hash() <= range.last);
            members.truncate(count);
            AudiencePage { members, next: None }
        })
    }
}

impl<S: Services> Fanout<S> {
    /// Reads the beginning of the audience and judges its size.
    pub(super) async fn survey(&self, content: &Content, everyone: bool) -> Result<Survey, InternalError> {
        let (first, second) = content.audiences(everyone);
        let page = async |audience: Option<Audience>| match audience {
            Some(audience) => self.services.page(&audience, SlotRange::WHOLE, None).await,
            None => Ok(AudiencePage::default()),
        };
        let (first, second) = try_join(page(Some(first)), page(second)).await?;
        let size = |page: &AudiencePage| match &page.next {
            None => page.members.len() as u64,
            Some(last) => plan::estimate(page.members.len(), last.hash()),
        };
        Ok(Survey { estimate: size(&first) + size(&second), pages: [first, second] })
    }

    /// The members of a part that it is for, each once: the union of its audiences, range by range. Of the first range
    /// they may be read already. The next range is begun while this one is used.
    pub(super) fn members(
        &self,
        content: &Content,
        part: &FanoutPart,
        read: Option<[AudiencePage; 2]>,
    ) -> BoxStream<'_, Result<Member, InternalError>> {
        let (first, second) = content.audiences(part.everyone);
        let mut read = read.map(|[first, second]| (first, second));
        let unions = part.ranges.clone().into_iter().map(move |range| {
            let (of_first, of_second) = read.take().unzip();
            let second = match &second {
                Some(second) => self.audience(second, range, of_second).left_stream(),
                None => stream::empty().right_stream(),
            };
            union::of(self.audience(&first, range, of_first), second)
        });
        let is_for_any_format = !content.is_for_viral_alert_alone();
        let members = stream::iter(unions).map(ready).buffered(2).flatten();
        members.try_filter(move |member| ready(is_for_any_format || member.format == Format::ViralAlert)).boxed()
    }

    /// The members of an audience within a range, in ascending order of slots. The next page is read while this one is
    /// used, so two of a range are in memory at a time.
    fn audience(
        &self,
        audience: &Audience,
        range: SlotRange,
        read: Option<AudiencePage>,
    ) -> impl Stream<Item = Result<Member, InternalError>> + Send + use<S> {
        let (services, audience) = (Arc::clone(&self.services), audience.clone());
        let read_after = move |after: Option<Slot>| {
            let (services, audience) = (Arc::clone(&services), audience.clone());
            Reading::InFlight(AbortOnDropHandle::new(tokio::spawn(async move {
                services.page(&audience, range, after.as_ref()).await
            })))
        };
        let first = match read {
            Some(page) => Reading::Done(page),
            None => read_after(None),
        };
        let pages = stream::try_unfold((Some(first), read_after), |(reading, read_after)| async move {
            let page = match reading {
                None => return Ok(None),
                Some(Reading::Done(page)) => page,
                Some(Reading::InFlight(reading)) => {
                    reading.await.map_err(|error| InternalError::new("reading a page of an audience", error))??
                }
            };
            let next = page.next.map(|last| read_after(Some(last)));
            let members = stream::iter(page.members.into_iter().map(Ok));
            Ok::<_, InternalError>(Some((members, (next, read_after))))
        });
        pages.try_flatten()
    }
}

/// A page that is there, or on its way.
enum Reading {
    Done(AudiencePage),
    InFlight(AbortOnDropHandle<Result<AudiencePage, InternalError>>),
}
