//! The law of endings sees each fault of a body that reports its end.

use super::*;

/// What is wrong with a body that reports its end by counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deaf {
    Nothing,
    Again,
    Early,
    ToDrop,
    ToError,
    ToHint,
    ToNone,
}

struct Counted {
    inner: Script,
    wrong: Deaf,
    open: bool,
    ends: Arc<AtomicUsize>,
}

impl Counted {
    fn wrap(wrong: Deaf) -> impl Fn(Script) -> (Self, Arc<AtomicUsize>) {
        move |inner| {
            let ends = Arc::new(AtomicUsize::new(0));
            (
                Self {
                    inner,
                    wrong,
                    open: true,
                    ends: Arc::clone(&ends),
                },
                ends,
            )
        }
    }

    fn end(&mut self, unless: Deaf) {
        if self.wrong != unless
            && (std::mem::replace(&mut self.open, false) || self.wrong == Deaf::Again)
        {
            self.ends.fetch_add(1, Relaxed);
        }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            None => self.end(Deaf::ToNone),
            Some(Err(_)) => self.end(Deaf::ToError),
            Some(Ok(_)) if self.inner.is_end_stream() || self.wrong == Deaf::Early => {
                self.end(Deaf::ToHint);
            }
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.end(Deaf::ToDrop);
    }
}

fn heard(ends: &Arc<AtomicUsize>) -> Vec<()> {
    vec![(); ends.load(Relaxed)]
}

#[tokio::test(start_paused = true)]
async fn a_body_that_reports_each_ending_once_keeps_the_law() {
    let told = endings(Counted::wrap(Deaf::Nothing), heard).await;
    assert_eq!(told.map(|(ending, ())| ending), Ending::ALL);
}

#[tokio::test(start_paused = true)]
async fn endings_see_each_fault_of_a_body() {
    for (wrong, part) in [
        (Deaf::Again, "after the drop"),
        (Deaf::Early, "before the end"),
        (Deaf::ToDrop, "Drop: after the drop"),
        (Deaf::ToError, "Error: at the end"),
        (Deaf::ToHint, "Hint: at the end"),
        (Deaf::ToNone, "None: at the end"),
    ] {
        let law = async move { _ = endings(Counted::wrap(wrong), heard).await };
        says(&broken(law).await, part, wrong);
    }

    let chatty = |script: Script| (script, ());
    let law = async move { _ = endings(chatty, |()| vec![()]).await };
    says(
        &broken(law).await,
        "before the end",
        "reports from the start",
    );
    let eats_trailers = |inner| {
        (
            Pane {
                inner,
                wrong: Wrong::LosesTrailers,
            },
            (),
        )
    };
    let law = async move { _ = endings(eats_trailers, |()| Vec::<()>::new()).await };
    says(
        &broken(law).await,
        "there were the reports []",
        "never reports",
    );
}
