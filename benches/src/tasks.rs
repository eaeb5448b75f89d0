//! Time of the clock, of asynchronous calls that wait for a server: calls per second of many tasks, and how
//! long each call took.
//!
//! ```ignore
//! let runtime = tasks::runtime(2);
//! let clients = [Client::new("GET", move |n| { let mut redis = redis.clone(); async move { .. } }), ..];
//! let table = tasks::compare("100 B", &runtime, &clients, &[Tasks::throughput(64), Tasks::latency(1)], numbers, rounds);
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::report::{Better, Cell, Column, Row, Table};
use crate::stats::quantile;

/// For so long each client works in each round.
const SPELL: Duration = Duration::from_millis(200);

/// One way to do it, as a task: calls for one number after the other, until it is told to stop.
#[derive(Clone)]
pub struct Client {
    pub name: String,
    task: Arc<dyn Fn(Work) -> Task + Send + Sync>,
}

type Task = Pin<Box<dyn Future<Output = Done> + Send>>;

struct Work {
    numbers: Arc<[usize]>,
    first: usize,
    /// No more calls than this.
    most: usize,
    stop: Arc<AtomicBool>,
    timed: bool,
}

struct Done {
    calls: usize,
    times: Vec<Duration>,
}

impl Client {
    /// Its calls take as long as the clock says.
    pub fn new<F, T>(name: impl Into<String>, call: F) -> Self
    where
        F: Fn(usize) -> T + Clone + Send + Sync + 'static,
        T: Future + Send + 'static,
    {
        Self::loops(name, move |number, timed| {
            let call = call(number);
            async move {
                let begun = timed.then(Instant::now);
                // What it returns is dropped within its time.
                drop(call.await);
                begun.map_or(Duration::ZERO, |begun| begun.elapsed())
            }
        })
    }

    /// Its calls say themselves how long they took.
    pub fn timing<F, T>(name: impl Into<String>, call: F) -> Self
    where
        F: Fn(usize) -> T + Clone + Send + Sync + 'static,
        T: Future<Output = Duration> + Send + 'static,
    {
        Self::loops(name, move |number, _| call(number))
    }

    /// A single call.
    pub async fn once(&self, number: usize) {
        let (numbers, stop) = (Arc::from([number]), Arc::default());
        (self.task)(Work { numbers, first: 0, most: 1, stop, timed: true }).await;
    }

    fn loops<F, T>(name: impl Into<String>, call: F) -> Self
    where
        F: Fn(usize, bool) -> T + Clone + Send + Sync + 'static,
        T: Future<Output = Duration> + Send + 'static,
    {
        let task = move |Work { numbers, first, most, stop, timed }: Work| {
            let call = call.clone();
            let task = async move {
                let mut done = Done { calls: 0, times: Vec::new() };
                for number in numbers.iter().cycle().skip(first).take(most) {
                    if stop.load(Relaxed) {
                        break;
                    }
                    let time = call(*number, timed).await;
                    done.calls += 1;
                    if timed {
                        done.times.push(time);
                    }
                }
                done
            };
            Box::pin(task) as Task
        };
        Self { name: name.into(), task: Arc::new(task) }
    }
}

/// So many tasks at once, and what is asked of them.
#[derive(Clone, Copy)]
pub struct Tasks {
    many: usize,
    latency: bool,
}

impl Tasks {
    /// Thousands of calls per second, of all tasks together.
    pub fn throughput(many: usize) -> Self {
        Self { many, latency: false }
    }

    /// How long a call takes: the median, and what all but a hundredth take at most.
    ///
    /// Compare one task's on one worker only: with two it depends on whether its connection's task is on the same.
    pub fn latency(many: usize) -> Self {
        Self { many, latency: true }
    }

    fn columns(self) -> Vec<Column> {
        let tasks = if self.many == 1 { "1 task".to_owned() } else { format!("{} tasks", self.many) };
        if self.latency {
            ["p50", "p99"].map(|share| Column::new(format!("{tasks} {share}"), "us", Better::Lower)).into()
        } else {
            vec![Column::new(tasks, "kop/s", Better::Higher)]
        }
    }

    /// One number for each column.
    fn measure(self, runtime: &Runtime, client: &Client, numbers: &Arc<[usize]>) -> Vec<f64> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let begun = Instant::now();
        for task in 0..self.many {
            // Each begins somewhere else.
            let first = numbers.len() * task / self.many;
            let (numbers, stop) = (Arc::clone(numbers), Arc::clone(&stop));
            let task = (client.task)(Work { numbers, first, most: usize::MAX, stop, timed: self.latency });
            tasks.spawn_on(task, runtime.handle());
        }
        // No timer of the runtime: calls that never wait leave no worker to look at it.
        thread::sleep(SPELL);
        stop.store(true, Relaxed);
        let done = runtime.block_on(tasks.join_all());
        let time = begun.elapsed();
        if self.latency {
            let times = done.iter().flat_map(|done| &done.times).map(|time| time.as_secs_f64() * 1e6);
            let times: Vec<f64> = times.collect();
            vec![quantile(&times, 0.5), quantile(&times, 0.99)]
        } else {
            let calls: usize = done.iter().map(|done| done.calls).sum();
            vec![calls as f64 / time.as_secs_f64() / 1e3]
        }
    }
}

/// A runtime with so many workers. Clients' connections must be made on the one they are measured on.
pub fn runtime(workers: usize) -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(workers).enable_all().build().expect("a runtime")
}

/// Every client under every load, for so many rounds; `numbers` are what is called for, over and over.
pub fn compare(
    title: &str,
    runtime: &Runtime,
    clients: &[Client],
    loads: &[Tasks],
    numbers: impl Into<Arc<[usize]>>,
    rounds: usize,
) -> Table {
    let numbers = numbers.into();
    let columns: Vec<Column> = loads.iter().flat_map(|load| load.columns()).collect();
    let mut measured = vec![vec![Vec::new(); columns.len()]; clients.len()];
    for round in 0..=rounds {
        let mut at = 0;
        for load in loads {
            let width = load.columns().len();
            for (client, measured) in clients.iter().zip(&mut measured) {
                let values = load.measure(runtime, client, &numbers);
                // The first round only warms up.
                if round > 0 {
                    measured[at..at + width].iter_mut().zip(values).for_each(|(all, value)| all.push(value));
                }
            }
            at += width;
        }
    }
    let rows = clients.iter().zip(&measured).map(|(client, own)| {
        let cells = own.iter().zip(&measured[0]).map(|(own, first)| Cell::beside(first, own));
        Row::new(client.name.clone(), cells.collect())
    });
    Table::new(title, columns, rows.collect())
}
