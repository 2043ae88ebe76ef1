//! Messages of clients: regions and rooms that they enter and leave, what they say there, and whatever else arrives at
//! `$default`.

use aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest;
use clock::Clock;
use serde::Serialize;
use shared::{
    auth::access::{Authorization, NAME_FIELD, Regions, authorizer_field},
    error::{ApiError, ErrorChain, InternalError},
    fanout::Content,
    limits::{JOIN_LOOK_EVERY, JOIN_WAIT},
    model::{
        alert::Format,
        audience::{Audience, Room},
        connection::Connection,
        position::Positions,
        room::RoomRequest,
    },
    protocol::{
        event,
        leg::EventsLeg,
        reply::{self, Count, InRoom, Kept, Reply, Subscribed},
        request::{self, Audiences, ClientRequest, Rooms},
    },
    publish::publisher::Dispatcher,
    replay::resumption,
    runtime::{
        environment::InvalidEnvironment,
        function::{Function, Invocation, StartContext},
    },
    tables::{
        alerts::history::History,
        subscriptions::{
            Subscriptions,
            connection_state::{Charged, MembershipChange, Memberships, MessageRate, RecordedState},
        },
    },
};
use tokio::time::Instant;

#[derive(Debug)]
pub struct Subscribe {
    subscriptions: Subscriptions,
    history: History,
    authorization: Authorization,
    message_rate: MessageRate,
    rooms: Rooms,
    /// What clients are told of the Event API.
    events: Option<EventsLeg>,
    /// Starts the fan-out of what is said.
    dispatcher: Dispatcher,
    clock: Clock,
}

/// What the gateway sends back over the socket, as the routes have route responses; nothing when there is no body. The
/// status is always 200: what API Gateway does with the body of any other is not documented.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscribeResponse {
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

/// Why a request has no answer of its own.
enum Unanswered {
    /// The client is told why.
    Refused(ApiError),
    /// The log is told why.
    Failed(InternalError),
}

impl From<ApiError> for Unanswered {
    fn from(refusal: ApiError) -> Self {
        Self::Refused(refusal)
    }
}

impl From<InternalError> for Unanswered {
    fn from(failure: InternalError) -> Self {
        Self::Failed(failure)
    }
}

impl Function for Subscribe {
    type Event = ApiGatewayWebsocketProxyRequest;
    type Response = SubscribeResponse;

    fn start(start: &StartContext) -> Result<Self, InvalidEnvironment> {
        let mut environment = start.environment.reader();
        let subscriptions = Subscriptions::from_env(start, &mut environment);
        let history = History::from_env(start, &mut environment);
        let authorization = environment.parsed(Authorization::VARIABLE, Authorization::Off);
        let message_rate = MessageRate::from_env(&mut environment);
        let rooms = environment.parsed("ROOMS", Rooms::Off);
        let events = EventsLeg::from_env(&mut environment);
        let deliver = environment.required("DELIVER_FUNCTION");
        let lambda = aws_sdk_lambda::Client::new(&start.sdk);
        environment.finish(Self {
            subscriptions,
            history,
            authorization,
            message_rate,
            rooms,
            events,
            dispatcher: Dispatcher::new(lambda, deliver, start.clock.clone()),
            clock: start.clock.clone(),
        })
    }

    async fn handle(&self, event: Self::Event, _invocation: Invocation) -> Result<SubscribeResponse, InternalError> {
        let connection = event::connection(&event, &self.clock)?;
        let regions = Regions::of_event(&event, self.authorization);
        let name = match self.authorization {
            Authorization::Off => None,
            Authorization::Optional | Authorization::Required => authorizer_field(&event, NAME_FIELD),
        };
        let request = request::parse(event.body.as_deref().unwrap_or_default())
            .and_then(|request| request.authorize(&regions))
            .and_then(|request| request.require_rooms(self.rooms))
            .and_then(|request| request.with_display_name(name));
        let answered = match request {
            Ok(request) => self.answer(&connection, &request).await,
            // What is refused counts as well: a client in a loop is told so.
            Err(refusal) => match self.admit(&connection, MembershipChange::None).await {
                Ok(_) => Err(refusal.into()),
                Err(unanswered) => Err(unanswered),
            },
        };
        let body = answered.unwrap_or_else(|unanswered| {
            let refusal = match unanswered {
                Unanswered::Refused(refusal) => refusal,
                Unanswered::Failed(failure) => {
                    tracing::error!(
                        connection = %connection.id, error = %ErrorChain(&failure),
                        "request not carried out"
                    );
                    ApiError::unavailable()
                }
            };
            Some(Reply::Error(refusal.body()).frame())
        });
        Ok(SubscribeResponse { status_code: 200, body })
    }
}

impl Subscribe {
    /// Carries a request out. None when what it causes is answer enough.
    async fn answer(&self, connection: &Connection, request: &ClientRequest) -> Result<Option<String>, Unanswered> {
        match request {
            ClientRequest::Subscribe { audiences, format, since } => {
                self.subscribe(connection, audiences, *format, since.as_ref()).await.map(Some)
            }
            ClientRequest::Keepalive { audiences, since } => {
                self.keepalive(connection, audiences, since.as_ref()).await.map(Some)
            }
            ClientRequest::Unsubscribe { audiences } => {
                self.admit(connection, MembershipChange::Leave(audiences.as_slice())).await?;
                self.subscriptions.unsubscribe(connection, audiences.as_slice()).await??;
                Ok(Some(Reply::Unsubscribed(audiences.into()).frame()))
            }
            ClientRequest::Join(room) => {
                self.enter(connection, &Audience::Room(room.clone()), Charged::Message(self.message_rate)).await?;
                Ok(Some(Reply::Joined(InRoom { room: room.name() }).frame()))
            }
            ClientRequest::Leave(room) => self.leave(connection, room.as_ref()).await.map(Some),
            ClientRequest::Say(request) => self.say(connection, request).await.map(|()| None),
            ClientRequest::Count(audience) => {
                self.admit(connection, MembershipChange::None).await?;
                let count = self.subscriptions.count(audience).await?;
                Ok(Some(Reply::Count(Count::of(audience, count)).frame()))
            }
            ClientRequest::Echo(data) => {
                self.admit(connection, MembershipChange::None).await?;
                Ok(Some(reply::echo(data)?))
            }
        }
    }

    async fn admit(&self, connection: &Connection, change: MembershipChange<'_>) -> Result<Memberships, Unanswered> {
        Ok(self.subscriptions.admit(connection, change, Charged::Message(self.message_rate)).await??)
    }

    /// Writes the subscription first and then reads the log: an alert is in the answer, or is pushed, or both.
    async fn subscribe(
        &self,
        connection: &Connection,
        audiences: &Audiences,
        format: Format,
        since: Option<&Positions>,
    ) -> Result<String, Unanswered> {
        let charged = since.map_or(Charged::Message(self.message_rate), |_| Charged::Resumption(self.message_rate));
        self.subscriptions.admit(connection, MembershipChange::Join(audiences.as_slice(), format), charged).await??;
        self.subscriptions.subscribe(connection, audiences.as_slice(), format).await??;
        let resumption = resumption::resume(&self.history, audiences.as_slice(), since).await?;
        let subscribed = Subscribed::new(audiences, &resumption, format).with_events(self.events.as_ref());
        Ok(Reply::Subscribed(subscribed).frame())
    }

    /// Compares what the client believes with what is so, and writes nothing but what admits the request.
    async fn keepalive(
        &self,
        connection: &Connection,
        audiences: &Audiences,
        since: Option<&Positions>,
    ) -> Result<String, Unanswered> {
        let memberships = self.admit(connection, MembershipChange::None).await?;
        let behind = resumption::behind(&self.history, audiences.as_slice(), since).await?;
        let missing = audiences.as_slice().iter().filter(|audience| !memberships.contains(audience));
        Ok(Reply::Kept(Kept { behind: &behind, missing: missing.map(Audience::key).collect() }).frame())
    }

    /// Enters a room.
    async fn enter(&self, connection: &Connection, room: &Audience, charged: Charged) -> Result<(), Unanswered> {
        // What is said has one form for all.
        let (rooms, format) = (std::slice::from_ref(room), Format::ViralAlert);
        self.subscriptions.admit(connection, MembershipChange::Join(rooms, format), charged).await??;
        Ok(self.subscriptions.subscribe(connection, rooms, format).await??)
    }

    /// Leaves a room: the one that was joined first, where none is named.
    async fn leave(&self, connection: &Connection, room: Option<&Room>) -> Result<String, Unanswered> {
        let (room, charged) = match room {
            Some(room) => (room.clone(), Charged::Message(self.message_rate)),
            None => {
                (self.admit(connection, MembershipChange::None).await?.first_room.unwrap_or_default(), Charged::Change)
            }
        };
        let audiences = [Audience::Room(room.clone())];
        self.subscriptions.admit(connection, MembershipChange::Leave(&audiences), charged).await??;
        self.subscriptions.unsubscribe(connection, &audiences).await??;
        Ok(Reply::Left(InRoom { room: room.name() }).frame())
    }

    /// What a connection is in once it has joined a room, or after [`JOIN_WAIT`]: clients send `join` and speak at
    /// once.
    async fn once_joined(&self, connection: &Connection) -> Result<Memberships, Unanswered> {
        let wait_until = Instant::now() + JOIN_WAIT;
        loop {
            tokio::time::sleep(JOIN_LOOK_EVERY).await;
            let RecordedState::Open(memberships) = self.subscriptions.state(&connection.id).await? else {
                return Err(ApiError::connection_closed().into());
            };
            if memberships.first_room.is_some() || Instant::now() >= wait_until {
                return Ok(memberships);
            }
        }
    }

    /// Has something delivered to all in a room, the one who speaks included: whoever speaks in a room is in it.
    async fn say(&self, connection: &Connection, request: &RoomRequest) -> Result<(), Unanswered> {
        let mut memberships = self.admit(connection, MembershipChange::None).await?;
        let mut is_certain = true;
        if request.room.is_none() && memberships.first_room.is_none() {
            memberships = self.once_joined(connection).await?;
            // What it joins at this moment may be noted and not written yet.
            is_certain = false;
        }
        let room = request.room.clone().or_else(|| memberships.first_room.clone()).unwrap_or_default();
        let audience = Audience::Room(room.clone());
        if !is_certain || !memberships.contains(&audience) {
            self.enter(connection, &audience, Charged::Change).await?;
        }
        let request = request.room_message(&room, self.clock.now());
        Ok(self.dispatcher.deliver(Content::RoomMessage(request)).await?)
    }
}
