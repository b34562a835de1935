//! How the writer answers publishers: all of a commit with one wake of their runtime.
//!
//! A wake from another thread makes the system run a sleeping worker, and where the two share a core it does so before the
//! next answer is given: two switches an answer. So the answers of a commit are put down first, and one short task in the
//! publishers' own runtime wakes all whom they are for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::runtime::Handle;

/// The two ends of one answer.
pub(crate) fn channel<T>() -> (Asked<T>, Awaited<T>) {
    let slot = Arc::new(Mutex::new(Slot::Open(None)));
    (Asked { slot: Arc::clone(&slot), runtime: Handle::try_current().ok() }, Awaited { slot })
}

enum Slot<T> {
    /// Not answered; whom to wake.
    Open(Option<Waker>),
    Answered(T),
    /// Nobody will answer, or it was taken.
    Over,
}

/// Where the answer goes. Dropped without one, the other end is told that none will come.
pub(crate) struct Asked<T> {
    slot: Arc<Mutex<Slot<T>>>,
    /// In which it is awaited: a runtime that is not driven can only keep its own tasks waiting.
    runtime: Option<Handle>,
}

/// The answer to come; `None` where none will. Cancel-safe: dropped, the answer is dropped by who gives it.
pub(crate) struct Awaited<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

impl<T> Asked<T> {
    /// Puts the answer down, and who awaits it with the others to be woken.
    pub(crate) fn answer(mut self, answer: T, wakes: &mut Wakes) {
        let before = std::mem::replace(&mut *self.slot.lock(), Slot::Answered(answer));
        if let Slot::Open(Some(waker)) = before {
            wakes.add(self.runtime.take(), waker);
        }
    }
}

impl<T> Drop for Asked<T> {
    fn drop(&mut self) {
        let mut slot = self.slot.lock();
        if let Slot::Open(waker) = &mut *slot {
            let waker = waker.take();
            *slot = Slot::Over;
            drop(slot);
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

impl<T> Future for Awaited<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = self.slot.lock();
        if let Slot::Open(waker) = &mut *slot {
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        match std::mem::replace(&mut *slot, Slot::Over) {
            Slot::Answered(answer) => Poll::Ready(Some(answer)),
            _ => Poll::Ready(None),
        }
    }
}

/// Those whose answers are there. Dropping it wakes them, each runtime once.
#[derive(Default)]
pub(crate) struct Wakes {
    /// Hardly ever more than one.
    runtimes: Vec<(Handle, Company)>,
    /// Awaiting in no runtime.
    elsewhere: Company,
}

impl Wakes {
    fn add(&mut self, runtime: Option<Handle>, waker: Waker) {
        let Some(runtime) = runtime else { return self.elsewhere.0.push(waker) };
        match self.runtimes.iter_mut().find(|(known, _)| known.id() == runtime.id()) {
            Some((_, company)) => company.0.push(waker),
            None => self.runtimes.push((runtime, Company(vec![waker]))),
        }
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        for (runtime, company) in self.runtimes.drain(..) {
            // One is woken as fast without a task.
            if company.0.len() > 1 {
                runtime.spawn(async move { drop(company) });
            }
        }
    }
}

/// Woken when it is dropped, so that a runtime which takes no more tasks wakes them as well.
#[derive(Default)]
struct Company(Vec<Waker>);

impl Drop for Company {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use tokio::runtime::Runtime;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// So many questions, asked and waited for within the runtime, if there is one.
    fn ask(
        count: usize,
        runtime: Option<&Runtime>,
        counted: &Arc<Counted>,
    ) -> Vec<(Asked<usize>, Awaited<usize>)> {
        let _entered = runtime.map(Runtime::enter);
        let waker = Waker::from(Arc::clone(counted));
        let ask = |_| {
            let (asked, mut awaited) = channel();
            assert!(Pin::new(&mut awaited).poll(&mut Context::from_waker(&waker)).is_pending());
            (asked, awaited)
        };
        (0..count).map(ask).collect()
    }

    fn runtime() -> Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    fn taken(awaited: &mut Awaited<usize>) -> Poll<Option<usize>> {
        Pin::new(awaited).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn answers_are_there_before_the_first_is_woken_and_then_all_are() {
        let (runtime, counted) = (runtime(), Arc::new(Counted::default()));
        let (asked, mut awaited): (Vec<_>, Vec<_>) = ask(5, Some(&runtime), &counted).into_iter().unzip();
        let mut wakes = Wakes::default();
        asked.into_iter().enumerate().for_each(|(nth, asked)| asked.answer(nth, &mut wakes));
        drop(wakes);
        assert_eq!(counted.0.load(Ordering::SeqCst), 0, "waking is left to the runtime");
        runtime.block_on(tokio::task::yield_now());
        assert_eq!(counted.0.load(Ordering::SeqCst), 5);
        for (nth, awaited) in awaited.iter_mut().enumerate() {
            assert_eq!(taken(awaited), Poll::Ready(Some(nth)));
            assert_eq!(taken(awaited), Poll::Ready(None), "an answer is taken once");
        }
    }

    #[test]
    fn no_runtime_keeps_another_ones_publishers_waiting() {
        let (idle, gone, counted) = (runtime(), runtime(), Arc::new(Counted::default()));
        let unheard = Arc::new(Counted::default());
        let mut asked: Vec<_> = ask(3, Some(&idle), &unheard);
        asked.extend(ask(1, None, &counted));
        asked.extend(ask(2, Some(&gone), &counted));
        gone.shutdown_background();
        let mut wakes = Wakes::default();
        asked.into_iter().for_each(|(asked, _)| asked.answer(0, &mut wakes));
        drop(wakes);
        assert_eq!(counted.0.load(Ordering::SeqCst), 3);
        assert_eq!(unheard.0.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn who_is_not_answered_is_told_so() {
        let counted = Arc::new(Counted::default());
        let (asked, mut awaited) = ask(1, None, &counted).remove(0);
        drop(asked);
        assert_eq!(counted.0.load(Ordering::SeqCst), 1);
        assert_eq!(taken(&mut awaited), Poll::Ready(None));
    }

    #[test]
    fn one_who_went_away_is_answered_in_vain() {
        let (asked, awaited) = ask(1, None, &Arc::default()).remove(0);
        drop(awaited);
        asked.answer(1, &mut Wakes::default());
    }
}
