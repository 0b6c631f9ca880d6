//! How many payloads may be in flight: few until the transport proves that it takes more, and few again when it goes silent.

use std::time::Duration;

use tokio::time::Instant;

/// Payloads in flight while nothing says that more are taken: what was handed over can't be merged any more.
pub(super) const FEW: usize = 4;

/// Without an acknowledgement for so long, nothing more is handed over beyond [`FEW`].
pub(super) const SILENCE: Duration = Duration::from_secs(1);

/// What an acknowledgement adds.
const GROWTH: usize = 3;

/// Grows with every acknowledgement while there is more to hand over than it lets through, so that it is four times as large
/// after every round trip; begins anew when all is delivered, and after a failure.
pub(super) struct Window {
    size: usize,
    /// Whether something was acknowledged since the last failure.
    proven: bool,
    /// Whether more was to be handed over than it let through.
    full: bool,
    /// When the last payload was acknowledged, or handed over while there was none in flight.
    progress: Instant,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            size: FEW,
            proven: false,
            full: false,
            progress: Instant::now(),
        }
    }

    /// Whether one more may be handed over, with so many in flight and at most `limit` taken by the transport. After a failure
    /// there is room for one, so nothing follows before all in flight have settled.
    pub(super) fn has_room(&mut self, in_flight: usize, limit: usize) -> bool {
        let room = if !self.proven {
            1
        } else if in_flight > 0 && self.progress.elapsed() > SILENCE {
            limit.min(FEW)
        } else {
            limit.clamp(1, self.size)
        };
        self.full |= in_flight >= room;
        in_flight < room
    }

    /// A payload is handed over.
    pub(super) fn handed_over(&mut self, in_flight_before: usize) {
        if in_flight_before == 0 {
            self.progress = Instant::now();
        }
    }

    /// There was nothing to hand over, though there was room.
    pub(super) fn idle(&mut self, in_flight: usize) {
        self.full = false;
        if in_flight == 0 {
            self.size = FEW;
        }
    }

    /// A payload was acknowledged; that proves nothing while a failure settles.
    pub(super) fn acknowledged(&mut self, proves: bool, limit: usize) {
        self.progress = Instant::now();
        if proves && self.proven && self.full && self.size < limit {
            self.size = (self.size + GROWTH).min(limit);
        }
        self.proven |= proves;
    }

    /// A payload has to go again.
    pub(super) fn failed(&mut self) {
        self.proven = false;
        self.full = false;
        self.size = FEW;
    }

    /// How long nothing was acknowledged; of meaning while there is something in flight.
    pub(super) fn silence(&self) -> Duration {
        self.progress.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands over as many as there is room for.
    fn fill(window: &mut Window, in_flight: &mut usize, limit: usize) {
        while window.has_room(*in_flight, limit) {
            window.handed_over(*in_flight);
            *in_flight += 1;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_quadruples_with_every_round_trip_up_to_the_limit() {
        let mut window = Window::new();
        let mut sizes = Vec::new();
        for _ in 0..8 {
            let mut in_flight = 0;
            fill(&mut window, &mut in_flight, 50);
            sizes.push(in_flight);
            for _ in 0..in_flight {
                window.acknowledged(true, 50);
            }
        }
        assert_eq!(sizes, [1, 4, 16, 50, 50, 50, 50, 50]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_stays_small_while_nothing_waits_and_begins_anew_when_all_is_delivered() {
        let mut window = Window::new();
        for _ in 0..100 {
            assert!(window.has_room(0, 50));
            window.handed_over(0);
            window.idle(1);
            window.acknowledged(true, 50);
            window.idle(0);
        }
        let mut in_flight = 0;
        fill(&mut window, &mut in_flight, 50);
        assert_eq!(in_flight, FEW);
        (0..30).for_each(|_| window.acknowledged(true, 50));
        window.idle(0);
        in_flight = 0;
        fill(&mut window, &mut in_flight, 50);
        assert_eq!(in_flight, FEW);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_failure_leave_few_and_one() {
        let mut window = Window::new();
        for _ in 0..5 {
            let mut in_flight = 0;
            fill(&mut window, &mut in_flight, 50);
            (0..in_flight).for_each(|_| window.acknowledged(true, 50));
        }
        let mut in_flight = 0;
        fill(&mut window, &mut in_flight, 20);
        assert_eq!(in_flight, 20);
        tokio::time::sleep(SILENCE * 2).await;
        assert!(!window.has_room(20, 50) && !window.has_room(FEW, 50));
        assert!(window.has_room(FEW - 1, 50));
        window.failed();
        assert!(!window.has_room(1, 50) && window.has_room(0, 50));
        window.acknowledged(false, 50);
        assert!(!window.has_room(1, 50), "what was in flight proves nothing");
        window.acknowledged(true, 50);
        in_flight = 0;
        fill(&mut window, &mut in_flight, 50);
        assert_eq!(in_flight, FEW);
    }
}
