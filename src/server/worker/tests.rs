use super::*;

/// Every kind that `std` maps an error of accept(2) to.
fn gone(code: i32) -> bool {
    is_gone(&io::Error::from_raw_os_error(code))
}

/// Linux passes errors of the new socket on as errors of the call: the next connection may be there already.
#[cfg(target_os = "linux")]
#[test]
fn a_connection_that_is_gone_again_is_no_failure_of_the_listener() {
    const EINTR: i32 = 4;
    const ENETDOWN: i32 = 100;
    const ENETUNREACH: i32 = 101;
    const ECONNABORTED: i32 = 103;
    const ECONNRESET: i32 = 104;
    const ETIMEDOUT: i32 = 110;
    const EHOSTUNREACH: i32 = 113;
    for code in [
        EINTR,
        ENETDOWN,
        ENETUNREACH,
        ECONNABORTED,
        ECONNRESET,
        ETIMEDOUT,
        EHOSTUNREACH,
    ] {
        assert!(gone(code), "{}", io::Error::from_raw_os_error(code));
    }
    // Descriptors and memory come back when connections end, and not at once.
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    for code in [ENOMEM, ENFILE, EMFILE, ENOBUFS] {
        assert!(!gone(code), "{}", io::Error::from_raw_os_error(code));
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_leaves_five_seconds_and_no_more() {
    let (stage, mut staged) = watch::channel(Stage::Drain);
    let began = Instant::now();
    let hurried = async {
        sleep(Duration::from_secs(100)).await;
        stage.send_replace(Stage::Hurry);
    };
    let window = sleep(Duration::from_secs(600));
    tokio::join!(or_hurry(&mut staged, window, HURRY), hurried);
    assert_eq!(began.elapsed(), Duration::from_secs(105));
}

#[tokio::test(start_paused = true)]
async fn what_ends_within_the_five_seconds_is_not_waited_for_longer() {
    let (_stage, mut staged) = watch::channel(Stage::Hurry);
    let began = Instant::now();
    or_hurry(&mut staged, sleep(Duration::from_secs(2)), HURRY).await;
    assert_eq!(began.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn without_a_second_signal_the_window_is_whole() {
    let (stage, mut staged) = watch::channel(Stage::Drain);
    let began = Instant::now();
    or_hurry(&mut staged, sleep(Duration::from_secs(600)), HURRY).await;
    // Nor does it matter that nobody is left who could send one.
    drop(stage);
    or_hurry(&mut staged, sleep(Duration::from_secs(600)), HURRY).await;
    assert_eq!(began.elapsed(), Duration::from_secs(1200));
}
