//! One thread that owns the table: calls queue up before it, so that they have one order and never block a caller.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::table::{Rules, Table};
use super::{Answer, Change, Entry, Expect, Lease, Meta, MetaError, WATCH_QUEUE, Watch};
use crate::clock::Clock;

/// Calls that may wait for the thread; further callers wait for a place.
const QUEUE: usize = 1024;
/// How often what is expired is removed.
const SWEEP: Duration = Duration::from_secs(30);

/// Runs transactions.
pub(crate) trait Backend: Send + 'static {
    /// Runs `act` on the table and makes durable what it changed, or nothing of it where it fails.
    fn transact(
        &mut self,
        writes: bool,
        act: &mut dyn FnMut(&mut dyn Table) -> Result<(), MetaError>,
    ) -> Result<(), MetaError>;
}

type Call = Box<dyn FnOnce(&mut dyn Backend, &dyn Clock, &Watchers) + Send>;

/// The sending side, and the thread's owner.
pub(crate) struct MetaActor {
    calls: Mutex<Option<mpsc::Sender<Call>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    watchers: Arc<Watchers>,
}

#[derive(Default)]
struct Watchers(Mutex<Vec<(Arc<str>, mpsc::Sender<Change>)>>);

impl Watchers {
    /// Shows changes to who watches. A watcher whose queue is full is dropped, and sees its end.
    fn show(&self, changes: &[Change]) {
        let mut watchers = self.0.lock();
        for change in changes {
            let (Change::Put { key, .. } | Change::Deleted { key, .. }) = change;
            watchers.retain(|(prefix, sender)| {
                !key.starts_with(&**prefix) || sender.try_send(change.clone()).is_ok()
            });
        }
    }
}

impl MetaActor {
    pub(crate) fn spawn(mut backend: impl Backend, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let (calls, mut queue) = mpsc::channel::<Call>(QUEUE);
        let watchers = Arc::new(Watchers::default());
        let shown = watchers.clone();
        let timer = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let run = move || {
            loop {
                let next = timer.block_on(async { tokio::time::timeout(SWEEP, queue.recv()).await });
                match next {
                    Ok(Some(call)) => call(&mut backend, clock.as_ref(), &shown),
                    Ok(None) => break,
                    Err(_) => shown.show(&sweep(&mut backend, clock.as_ref())),
                }
            }
            shown.0.lock().clear();
        };
        let thread = std::thread::Builder::new().name("newswire-meta".into()).spawn(run)?;
        Ok(Self { calls: Mutex::new(Some(calls)), thread: Mutex::new(Some(thread)), watchers })
    }

    fn call<T: Send + 'static>(
        &self,
        writes: bool,
        act: impl Fn(&mut Rules<'_>) -> Result<T, MetaError> + Send + 'static,
    ) -> Answer<T> {
        let calls = self.calls.lock().clone();
        Box::pin(async move {
            let calls = calls.ok_or(MetaError::Closed)?;
            let (answer, answered) = oneshot::channel();
            let call: Call = Box::new(move |backend, clock, watchers| {
                let (result, changes) = run(backend, clock, writes, &act);
                watchers.show(&changes);
                // A caller that went away has its change all the same.
                let _ = answer.send(result);
            });
            calls.send(call).await.map_err(|_| MetaError::Closed)?;
            drop(calls);
            answered.await.map_err(|_| MetaError::Closed)?
        })
    }

    /// Lets what waits finish, and waits for it.
    pub(crate) fn close(&self) {
        self.calls.lock().take();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the store of shared state panicked");
        }
    }
}

impl Drop for MetaActor {
    fn drop(&mut self) {
        self.close();
    }
}

fn run<T>(
    backend: &mut dyn Backend,
    clock: &dyn Clock,
    writes: bool,
    act: &dyn Fn(&mut Rules<'_>) -> Result<T, MetaError>,
) -> (Result<T, MetaError>, Vec<Change>) {
    let now = clock.now();
    let mut done = None;
    let committed = backend.transact(writes, &mut |table| {
        let mut rules = Rules::new(table, now);
        let result = act(&mut rules)?;
        done = Some((result, rules.into_changes()));
        Ok(())
    });
    match (committed, done) {
        (Ok(()), Some((result, changes))) => (Ok(result), changes),
        (Err(error), _) => (Err(error), Vec::new()),
        (Ok(()), None) => (Err(MetaError::Closed), Vec::new()),
    }
}

fn sweep(backend: &mut dyn Backend, clock: &dyn Clock) -> Vec<Change> {
    let (result, changes) = run(backend, clock, true, &|rules| rules.sweep());
    if let Err(error) = result {
        tracing::warn!(%error, "expired shared state was not removed");
    }
    changes
}

impl MetaActor {
    /// Removes what is expired now; also done by itself, periodically.
    pub(crate) fn sweep(&self) -> Answer<usize> {
        self.call(true, |rules: &mut Rules<'_>| rules.sweep())
    }
}

impl Meta for MetaActor {
    fn get(&self, key: &str) -> Answer<Option<Entry>> {
        let key = key.to_owned();
        self.call(false, move |rules| rules.get(&key))
    }

    fn put(&self, key: &str, value: Bytes, expect: Expect, ttl: Option<Duration>) -> Answer<u64> {
        let key = key.to_owned();
        self.call(true, move |rules| rules.put(&key, value.clone(), expect, ttl))
    }

    fn delete(&self, key: &str, expect: Expect) -> Answer<bool> {
        let key = key.to_owned();
        self.call(true, move |rules| rules.delete(&key, expect))
    }

    fn list(&self, prefix: &str) -> Answer<Vec<(Arc<str>, Entry)>> {
        let prefix = prefix.to_owned();
        self.call(false, move |rules| rules.list(&prefix))
    }

    fn acquire(&self, name: &str, owner: &str, ttl: Duration) -> Answer<Option<Lease>> {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        self.call(true, move |rules| rules.acquire(&name, &owner, ttl))
    }

    fn renew(&self, name: &str, owner: &str, ttl: Duration) -> Answer<Option<Lease>> {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        self.call(true, move |rules| rules.renew(&name, &owner, ttl))
    }

    fn release(&self, name: &str, owner: &str) -> Answer<bool> {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        self.call(true, move |rules| rules.release(&name, &owner))
    }

    fn watch(&self, prefix: &str) -> Watch {
        let (sender, changes) = mpsc::channel(WATCH_QUEUE);
        if self.calls.lock().is_some() {
            self.watchers.0.lock().push((prefix.into(), sender));
        }
        Watch { changes }
    }
}

/// Passes every call of a store that wraps an actor on to it.
macro_rules! delegate_meta {
    ($store:ty) => {
        impl $store {
            /// Removes what is expired now; also done by itself, periodically. Returns how many entries went.
            pub fn sweep(&self) -> crate::meta::Answer<usize> {
                self.actor.sweep()
            }

            /// Finishes what waits and stops; later calls are refused. Closing twice is no error. Blocks.
            pub fn close(&self) {
                self.actor.close();
            }
        }

        impl crate::meta::Meta for $store {
            fn get(&self, key: &str) -> crate::meta::Answer<Option<crate::meta::Entry>> {
                self.actor.get(key)
            }

            fn put(
                &self,
                key: &str,
                value: bytes::Bytes,
                expect: crate::meta::Expect,
                ttl: Option<std::time::Duration>,
            ) -> crate::meta::Answer<u64> {
                self.actor.put(key, value, expect, ttl)
            }

            fn delete(&self, key: &str, expect: crate::meta::Expect) -> crate::meta::Answer<bool> {
                self.actor.delete(key, expect)
            }

            fn list(
                &self,
                prefix: &str,
            ) -> crate::meta::Answer<Vec<(std::sync::Arc<str>, crate::meta::Entry)>> {
                self.actor.list(prefix)
            }

            fn acquire(
                &self,
                name: &str,
                owner: &str,
                ttl: std::time::Duration,
            ) -> crate::meta::Answer<Option<crate::meta::Lease>> {
                self.actor.acquire(name, owner, ttl)
            }

            fn renew(
                &self,
                name: &str,
                owner: &str,
                ttl: std::time::Duration,
            ) -> crate::meta::Answer<Option<crate::meta::Lease>> {
                self.actor.renew(name, owner, ttl)
            }

            fn release(&self, name: &str, owner: &str) -> crate::meta::Answer<bool> {
                self.actor.release(name, owner)
            }

            fn watch(&self, prefix: &str) -> crate::meta::Watch {
                self.actor.watch(prefix)
            }
        }
    };
}

pub(crate) use delegate_meta;
