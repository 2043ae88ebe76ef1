//! Who gets an alert of the synthetic canary where its own region has no subscriber.

use super::*;
use crate::{
    error::InternalError,
    model::{
        alert::Alert,
        audience::{Audience, Region},
        connection::{ConnectionId, Slot, SlotRange},
        member::AudiencePage,
    },
    push::{ConnectionState, Frame, PostOutcome},
};

/// A world in which one connection watches all regions and nobody watches one. It notes the audiences that it is asked
/// for.
#[derive(Default)]
struct WatchedByAll(Mutex<Vec<Audience>>);

impl Services for WatchedByAll {
    async fn has(&self, _: &Alert) -> Result<bool, InternalError> {
        Ok(true)
    }

    async fn page(&self, audience: &Audience, _: SlotRange, _: Option<&Slot>) -> Result<AudiencePage, InternalError> {
        self.0.lock().expect("unpoisoned").push(audience.clone());
        let is_watched = matches!(audience, Audience::All | Audience::Everyone);
        Ok(AudiencePage { members: is_watched.then(|| member(0)).into_iter().collect(), next: None })
    }

    async fn post(&self, _: &ConnectionId, _: &Frame) -> PostOutcome {
        PostOutcome::Sent
    }

    fn random(&self) -> f64 {
        0.5
    }

    must_not_be_called!(get_connection, close, remove, start);
}

/// Connections that get an alert of a region, and the audiences that are read for it.
async fn delivered(region: Region) -> (u64, Vec<Audience>) {
    let fanout = fanout(WatchedByAll::default(), 1e6);
    let task = FanoutTask { content: Content::Alert(Alert { region, ..alert() }), ..task(0) };
    let report = fanout.deliver(&task, deadline()).await.expect("delivered");
    let asked = fanout.services.0.lock().expect("unpoisoned").clone();
    (report.sent, asked)
}

#[tokio::test(start_paused = true)]
async fn those_who_watch_all_regions_and_everyone_else_get_no_alert_of_the_canary() {
    let (sent, asked) = delivered(Region::canary()).await;
    assert_eq!((sent, asked.as_slice()), (0, &[Audience::Region(Region::canary())][..]));
    let (sent, asked) = delivered("PL".parse().expect("a region")).await;
    assert_eq!((sent, asked.contains(&Audience::All)), (1, true), "this world would deliver it");
}

#[test]
fn no_part_of_a_fan_out_of_the_canary_goes_to_everyone() {
    let content = Content::Alert(Alert { region: Region::canary(), ..alert() });
    for everyone in [false, true] {
        assert_eq!(content.audiences(everyone), (Audience::Region(Region::canary()), None));
    }
}
