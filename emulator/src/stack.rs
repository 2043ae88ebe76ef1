//! Starts all parts of the emulator in order, and stops them in reverse.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clock::Clock;
use hyper::{
    Method, Response, StatusCode, Uri,
    header::{HeaderValue, LOCATION},
    http::request::Parts,
};
use serde_json::json;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    access_notes::access_notes,
    aws,
    aws_services::{self, AwsServices},
    dynamodb::{self, DatabaseError, Store, TableCapacity, TableUnits},
    embedding::{Embedding, Pages, Site},
    event_api::{self, EventApiAddress, EventApis},
    event_sources::{self, EventSourceSettings},
    events::Buses,
    faults::{FaultKind, FaultOptions, Faults},
    gateway::{Gateway, GatewayOptions, GatewaySettings},
    http::{self, Body, Listener, Request},
    http_api::{self, HttpApiAddress, HttpApis},
    http_client::HttpClient,
    inspector::{self, Inspector},
    lambda::{
        self, Functions, LambdaSettings, Publisher,
        process::{LocalAddresses, ProcessHost},
    },
    rate::Quotas,
    recorder::Recorder,
    reset::Reset,
    schedules,
    service_integrations::IntegratedServices,
    sns::Topics,
    sqs::Queues,
    ssm::Parameters,
    template::{Function, LoadError, StoredParameter, Template, TemplateInputs, TemplateSource, event_api_hosts},
    tls::{Identity, TlsError, TlsFiles},
    variables::Variables,
};

/// How long sockets and running invocations may take to finish when the emulator stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Path for health checks of the HTTP address.
const HEALTH: &str = "/health";

/// Path that takes everything back to how it was at the start.
const RESET: &str = "/reset";

/// Options of the emulator.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address of the WebSocket gateway and management API.
    pub ws_addr: SocketAddr,
    /// Address of the HTTP API and the inspector.
    pub http_addr: SocketAddr,
    /// Address of all AWS services that are here, which `AWS_ENDPOINT_URL` then names too. `None` takes a free port
    /// beside the HTTP API, and clients of services that are not here reach the real ones.
    pub aws_addr: Option<SocketAddr>,
    /// The template to run.
    pub template: TemplateSource,
    /// Values of its parameters. Others keep their defaults.
    pub parameters: BTreeMap<String, String>,
    /// What only a deployed stack knows: `Resource.Attribute`, `Resource` for what `Ref` returns, or the name of an
    /// export.
    pub values: BTreeMap<String, String>,
    /// Directory for the tables. `None` keeps them in memory.
    pub data_dir: Option<PathBuf>,
    /// A DynamoDB with the template's tables, which the functions use instead of the emulator's.
    pub dynamodb: Option<Uri>,
    /// Secret parameters of Systems Manager, by name.
    pub secrets: BTreeMap<String, String>,
    /// Capacity of each partition of a table. `None` sets no limit.
    pub table_capacity: Option<TableCapacity>,
    /// Host names that requests may use, in addition to this machine's own.
    pub hosts: Vec<String>,
    /// A certificate that browsers trust, for the WebSocket gateway and the HTTP API.
    pub tls: Option<TlsFiles>,
    /// Layers that are not in the template, by their ARNs with or without a version, or other contents for those that
    /// are, by their logical ids: directories or zip files.
    pub layers: BTreeMap<String, PathBuf>,
    /// A Lambda Invoke API that runs the functions instead of the emulator.
    pub lambda_endpoint: Option<Uri>,
    /// Divides the time limits of connections, and the delays between retries of asynchronous invocations. 1 leaves
    /// them as they are.
    pub time_scale: f64,
    /// Limits, quotas and signature checks of the gateway.
    pub gateway: GatewayOptions,
    /// Faults to inject.
    pub faults: FaultOptions,
}

impl Options {
    /// Options for a template with its defaults, on free ports, with everything in memory.
    pub fn on_free_ports(template: impl Into<TemplateSource>) -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            ws_addr: free,
            http_addr: free,
            aws_addr: None,
            template: template.into(),
            parameters: BTreeMap::new(),
            values: BTreeMap::new(),
            data_dir: None,
            dynamodb: None,
            secrets: BTreeMap::new(),
            table_capacity: None,
            hosts: Vec::new(),
            tls: None,
            layers: BTreeMap::new(),
            lambda_endpoint: None,
            time_scale: 1.0,
            gateway: GatewayOptions::default(),
            faults: FaultOptions::default(),
        }
    }
}

/// Why the emulator cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The template cannot be used.
    #[error(transparent)]
    Template(#[from] LoadError),
    /// An address is in use, or not this machine's.
    #[error("cannot listen on {0}; name another address with {1}, or port 0 for any free port")]
    Listen(SocketAddr, &'static str, #[source] io::Error),
    /// The database cannot be opened.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A function cannot start.
    #[error(transparent)]
    Function(#[from] lambda::FunctionStartError),
    /// Loaders and certificates cannot be written.
    #[error("cannot write to the directory for temporary files; name another with TMPDIR")]
    Files(#[source] io::Error),
    /// The certificates cannot be made or read.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A running emulator.
#[derive(Debug)]
pub struct Stack {
    /// Address of the WebSocket gateway and the management API.
    pub ws_addr: SocketAddr,
    /// Address of the HTTP API and the inspector.
    pub http_addr: SocketAddr,
    /// Address of the AWS services.
    pub aws_addr: SocketAddr,
    /// The host under which browsers reach them over TLS, if there is a certificate that is valid for one.
    pub tls_host: Option<String>,
    /// The stage of the WebSocket API.
    pub stage: String,
    /// The address of each HTTP and REST API, unless there is only one at the root of `http_addr`.
    pub http_apis: Vec<HttpApiAddress>,
    /// The addresses of each Event API.
    pub event_apis: Vec<EventApiAddress>,
    /// Variables that lead AWS clients in any language to the emulator.
    pub aws_variables: BTreeMap<String, String>,
    /// Variables that the template gives to functions, by function name.
    pub function_variables: BTreeMap<String, BTreeMap<String, String>>,
    /// Notes for the user: what the emulator ignores in the template, and how to repeat injected faults.
    pub notes: Vec<String>,
    /// Variables of other programs.
    pub(crate) variables: Arc<Variables>,
    database: Arc<Store>,
    gateway: Arc<Gateway>,
    events: Arc<EventApis>,
    functions: Arc<Functions>,
    faults: Arc<Faults>,
    /// Cancelled to stop what starts invocations: HTTP requests and schedules.
    intake: CancellationToken,
    intake_tasks: TaskTracker,
    /// Cancelled to stop what functions use: tables, queues, other AWS services, and the gateway.
    services: CancellationToken,
    service_tasks: TaskTracker,
}

impl Stack {
    /// Starts everything, with each function as a process. When it returns, everything is ready.
    ///
    /// # Errors
    ///
    /// If the template is invalid, an address is in use, or a function or a table cannot be made.
    pub async fn start(options: &Options) -> Result<Self, StartError> {
        Self::embedded(options, &()).await
    }

    /// Starts everything in a program that adds functions and pages of its own.
    ///
    /// # Errors
    ///
    /// Those of [`Stack::start`].
    pub async fn embedded(options: &Options, program: &dyn Embedding) -> Result<Self, StartError> {
        let clock = Clock::System;
        let inputs = TemplateInputs {
            parameters: options.parameters.clone(),
            values: options.values.clone(),
            secrets: options.secrets.clone(),
        };
        let template = Template::load(&options.template, &inputs)?;
        let of_access = access_notes(&template, &options.gateway);
        let identity = Identity::new(http::reachable(options.ws_addr).ip(), options.tls.as_ref())?;
        let hosts = &options.hosts;
        // Functions whose code has the AWS address of the API are redirected here, see `docs/emulator.md`.
        let in_cloud = aws::api_hosts(&template.sockets.api_id);
        let ws =
            listen(options.ws_addr, "--ws-addr", &hosts.iter().cloned().chain(in_cloud).collect::<Vec<_>>()).await?;
        let api = listen(options.http_addr, "--http-addr", hosts).await?;
        let any_port = SocketAddr::new(options.http_addr.ip(), 0);
        let aws = listen(options.aws_addr.unwrap_or(any_port), "--aws-addr", hosts).await?;
        let [ws_addr, http_addr, aws_addr] = [&ws, &api, &aws].map(|listener| http::reachable(listener.address));

        let stage = template.sockets.stage.clone();
        let aws_variables = aws::variables(
            &format!("http://{aws_addr}"),
            options.dynamodb.as_ref().map(Uri::to_string).as_deref(),
            &format!("http://{ws_addr}/{stage}"),
            options.aws_addr.is_some(),
        );
        let (intake, services) = (CancellationToken::new(), CancellationToken::new());
        let (intake_tasks, service_tasks) = (TaskTracker::new(), TaskTracker::new());

        let has_streams = !template.streams.is_empty();
        let database = dynamodb::open(
            options.data_dir.as_deref(),
            &template.tables,
            &template.streams,
            options.table_capacity,
            &clock,
        )?;
        dynamodb::sweep(Arc::clone(&database), services.clone(), &service_tasks);
        let files = tempfile::Builder::new().prefix("apigw-local-").tempdir().map_err(StartError::Files)?;
        let trust = identity.trust(files.path()).map_err(StartError::Files)?;
        let ip = ws_addr.ip().to_string();
        let tls_host = identity.host_of_own(&[&ip, "localhost"]).map(str::to_owned);
        let bracketed =
            tls_host.as_ref().map(|host| if host.contains(':') { format!("[{host}]") } else { host.clone() });
        let of_events = template.event_apis.iter().map(|api| (api.name.as_str(), event_api_hosts(&api.api_id)));
        let host = ProcessHost::new(
            &template.directory,
            options.layers.clone(),
            files,
            LocalAddresses {
                api_id: template.sockets.api_id.clone(),
                gateway: ws_addr,
                http_api_ids: template.http_apis.iter().map(|api| api.api_id.clone()).collect(),
                http: http_addr,
                event_apis: event_api::local_hosts(of_events, http_addr, bracketed.as_deref()),
                queues: aws_addr,
            },
            trust,
        );
        let recorder = Recorder::new(clock.clone());
        let faults = Arc::new(Faults::new(&options.faults));
        let queues = Arc::new(Queues::new(template.queues.clone(), clock.clone()));
        let purged = Arc::clone(&queues);
        let settings = LambdaSettings {
            endpoints: &aws_variables,
            lambda_endpoint: options.lambda_endpoint.as_ref(),
            linked: program,
            routed: &template.routed(),
            host: &host,
            time_scale: options.time_scale,
            recorder: Arc::clone(&recorder),
            faults: Arc::clone(&faults),
            queues: Arc::clone(&queues),
        };
        let functions = Functions::start(&template.functions, &settings)?;
        let polled = EventSourceSettings {
            store: Arc::clone(&database),
            queues: Arc::clone(&queues),
            functions: Arc::clone(&functions),
            clock: clock.clone(),
            time_scale: options.time_scale,
        };
        let topics = Topics::new(template.topics, Arc::clone(&functions), Arc::clone(&queues), clock.clone());
        let publisher: Arc<dyn Publisher> = Arc::<Topics>::clone(&topics);
        functions.publish_to(Arc::downgrade(&publisher));
        let stored = template.stored_parameters.iter().map(|(name, StoredParameter { kind, value })| {
            (name.clone(), StoredParameter { kind: kind.clone(), value: host.localised(value) })
        });
        let parameters = Arc::new(Parameters { secrets: options.secrets.clone(), stored: stored.collect() });

        let localised = |(name, value): (&String, &String)| (name.clone(), host.localised(value));
        let of_function = |(name, function): (&String, &Function)| {
            (name.clone(), function.environment.iter().map(localised).collect())
        };
        let function_variables: BTreeMap<_, BTreeMap<_, _>> = template.functions.iter().map(of_function).collect();
        let of_ids: Vec<_> = template
            .functions
            .iter()
            .map(|(name, function)| (function.logical_id.clone(), function_variables[name].clone()))
            .collect();
        let buses = Arc::new(Buses {
            rules: template.rules,
            functions: Arc::clone(&functions),
            queues: Arc::clone(&polled.queues),
            topics: Arc::clone(&topics),
            clock: clock.clone(),
        });
        let integrated = IntegratedServices {
            store: Arc::clone(&database),
            queues: Arc::clone(&polled.queues),
            topics: Arc::clone(&topics),
            buses: Arc::clone(&buses),
        };
        let quotas = Quotas::new(options.gateway.connect_rate, options.gateway.request_rate, clock.now());
        let quotas = Arc::new(quotas);
        // Functions may not trust the certificate that browsers do.
        let of_functions = if options.tls.is_some() { aws_addr } else { ws_addr };
        let http = Arc::<HttpClient>::default();
        let settings = GatewaySettings::new(
            &options.gateway,
            options.time_scale,
            Arc::clone(&faults),
            Arc::clone(&quotas),
            Arc::clone(&http),
        );
        let gateway = Gateway::new(
            template.sockets,
            of_functions,
            Arc::clone(&functions),
            Some(integrated),
            clock.clone(),
            settings,
            Arc::clone(&recorder),
        );
        let of_aws = Arc::new(AwsServices {
            store: Arc::clone(&database),
            functions: Arc::clone(&functions),
            queues,
            topics,
            buses,
            parameters,
            gateway: Arc::clone(&gateway),
            stopping: services.clone(),
        });
        service_tasks.spawn(http::serve(
            aws,
            Some(identity.services.clone()),
            services.clone(),
            move |request, peer| aws_services::handle(Arc::clone(&of_aws), request, peer),
        ));
        let sockets = Arc::clone(&gateway);
        let connecting = Arc::clone(&gateway);
        let ws = ws.except(move |request| connecting.is_handshake(request));
        // Functions post through this listener, so it stops after them.
        service_tasks.spawn(http::serve(ws, Some(identity.gateway.clone()), services.clone(), move |request, peer| {
            Arc::clone(&sockets).handle(request, peer)
        }));

        let names = template.event_apis.iter().map(|api| api.name.as_str());
        let event_addresses = event_api::addresses(names, &http_addr.to_string());
        let events = Arc::new(EventApis::new(
            template.event_apis,
            &options.gateway,
            options.time_scale,
            Arc::clone(&functions),
            clock.clone(),
            Arc::clone(&faults),
            Arc::clone(&recorder),
        ));
        let addresses = http_api::addresses(&template.http_apis);
        let http_apis = Arc::new(HttpApis::new(
            template.http_apis,
            is_own,
            Arc::clone(&functions),
            clock.clone(),
            quotas,
            &options.gateway,
            http,
        ));
        let pages = program.pages(Site {
            websocket_port: ws_addr.port(),
            aws_variables: aws_variables.clone(),
            function_variables: function_variables.clone(),
            gateway: Arc::clone(&gateway),
        });
        let variables = Arc::new(Variables::new(&aws_variables, &of_ids, [ws_addr, http_addr, aws_addr], &stage));
        let inspector = Inspector::new(
            recorder,
            Arc::clone(&gateway),
            Arc::clone(&events),
            ws_addr.port(),
            pages.clone(),
            Arc::clone(&variables),
            intake.clone(),
        );
        let (linked, routed, published) = (pages.clone(), Arc::clone(&http_apis), Arc::clone(&events));
        let api = api.except(move |request| {
            published.is_open_to(request) || routed.is_open_to(request) || is_public(request, linked.as_deref())
        });
        let reset = Reset {
            gateway: Arc::clone(&gateway),
            event_apis: Arc::clone(&events),
            functions: Arc::clone(&functions),
            database: Arc::clone(&database),
            queues: purged,
        };
        let front = Arc::new(HttpRouter { event_apis: Arc::clone(&events), http_apis, inspector, pages, reset });
        intake_tasks.spawn(http::serve(api, identity.http.clone(), intake.clone(), move |request, peer| {
            let front = Arc::clone(&front);
            async move { front.answer(request, peer).await }
        }));
        let mut notes = template.notes;
        notes.extend_from_slice(functions.notes());
        notes.extend(of_access);
        if options.dynamodb.is_some() && has_streams {
            notes.push("streams of tables invoke no functions: the tables are in another DynamoDB".to_owned());
        }
        if options.tls.is_some() && tls_host.is_none() {
            notes.push(format!(
                "the certificate of --tls-cert is not valid for {ip} or localhost: clients need the name of its host, \
                 and --allow-host that name"
            ));
        }
        notes.extend(identity.note_on_time());
        notes.extend(faults.seed().map(|seed| format!("faults are injected; --fault-seed {seed} repeats them")));
        event_sources::run(template.event_sources, &polled, &intake, &intake_tasks);
        schedules::run(template.schedules, &functions, &clock, &intake, &intake_tasks);
        Ok(Self {
            ws_addr,
            http_addr,
            aws_addr,
            tls_host,
            stage,
            http_apis: addresses,
            event_apis: event_addresses,
            aws_variables,
            function_variables,
            notes,
            variables,
            database,
            gateway,
            events,
            functions,
            faults,
            intake,
            intake_tasks,
            services,
            service_tasks,
        })
    }

    /// Returns the read and write units that the tables used and throttled, if they have a capacity.
    pub fn table_units(&self) -> Option<TableUnits> {
        self.database.units()
    }

    /// Waits until no invocation is running.
    pub async fn settled(&self) {
        self.functions.settled().await;
    }

    /// Returns the number of open sockets.
    pub fn connected(&self) -> usize {
        self.gateway.connected()
    }

    /// Returns the number of open sockets of Event APIs.
    pub fn event_sockets(&self) -> usize {
        self.events.connected()
    }

    /// Returns the ids of open connections.
    pub fn connections(&self) -> Vec<String> {
        self.gateway.summaries("", usize::MAX).0.into_iter().map(|summary| summary.connection_id).collect()
    }

    /// Counts the invocations of all functions.
    pub fn invocations(&self) -> u64 {
        self.functions.invocations()
    }

    /// Counts the invocations of one function.
    pub fn invocations_of(&self, function: &str) -> u64 {
        self.functions.invocations_of(function)
    }

    /// Counts the injected faults by kind.
    pub fn faults(&self) -> BTreeMap<FaultKind, u64> {
        self.faults.counts()
    }

    /// Stops everything gracefully. It refuses new requests, waits for running invocations, closes each socket with a
    /// close frame, runs `$disconnect` for each, and stops what functions use. Gives up waiting after 10 seconds.
    pub async fn stop(self) {
        let functions = Arc::clone(&self.functions);
        let orderly = async {
            self.intake.cancel();
            self.intake_tasks.close();
            self.intake_tasks.wait().await;
            self.functions.finish().await;
            self.events.finish().await;
            self.gateway.finish().await;
            self.services.cancel();
            self.service_tasks.close();
            self.service_tasks.wait().await;
        };
        if tokio::time::timeout(STOP_TIMEOUT, orderly).await.is_err() {
            tracing::warn!(after_s = STOP_TIMEOUT.as_secs(), "stopped with work unfinished");
        }
        if let Some(events) = functions.unfinished_events() {
            tracing::warn!(events, "asynchronous invocations given up: the emulator stopped");
        }
    }
}

async fn listen(address: SocketAddr, flag: &'static str, hosts: &[String]) -> Result<Listener, StartError> {
    Listener::bind(address, hosts).await.map_err(|error| StartError::Listen(address, flag, error))
}

/// Returns whether pages of other sites may send a request: one for a page that reveals no data of this machine.
fn is_public(request: &Parts, pages: Option<&dyn Pages>) -> bool {
    let path = request.uri.path();
    let is_page = || pages.is_some_and(|pages| pages.is_public(path));
    http::is_read(&request.method) && (path == "/" || path == HEALTH || inspector::is_public(path) || is_page())
}

/// Routes requests of the HTTP address to the Event APIs, the HTTP API, the inspector and the pages.
#[derive(Debug)]
struct HttpRouter {
    event_apis: Arc<EventApis>,
    http_apis: Arc<HttpApis>,
    inspector: Inspector,
    pages: Option<Arc<dyn Pages>>,
    reset: Reset,
}

impl HttpRouter {
    async fn answer(&self, request: Request, peer: SocketAddr) -> Response<Body> {
        let request = match self.event_apis.handle(request, peer).await {
            Ok(response) => return response,
            Err(request) => request,
        };
        let request = match self.http_apis.handle(request, peer).await {
            Ok(response) => return response,
            Err(request) => request,
        };
        if request.uri().path() == HEALTH {
            return http::json(StatusCode::OK, &json!({"status": "ok"}));
        }
        if request.uri().path() == RESET && request.method() == Method::POST {
            return self.reset.handle().await;
        }
        if inspector::is_for(request.uri().path()) {
            return self.inspector.handle(request).await;
        }
        let (request, _) = request.into_parts();
        if let Some(pages) = &self.pages
            && let Some(response) = pages.handle(&request).await
        {
            return response;
        }
        if request.uri.path() == "/" && request.method == Method::GET {
            return to_inspector();
        }
        self.http_apis.not_found(&request)
    }
}

/// Returns whether a path is the emulator's own, which a route for all paths does not take.
fn is_own(path: &str) -> bool {
    path == HEALTH || path == RESET || inspector::is_for(path)
}

/// Redirects a browser to the inspector.
fn to_inspector() -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/inspector"));
    response
}
