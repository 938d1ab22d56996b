use bytes::{Bytes, BytesMut};

/// Frames on their way into a [`Held`](super::Held) body.
///
/// They are kept as they come; only a sender that cuts its body into many tiny pieces has them
/// copied together, so that holding a body costs memory in proportion to its bytes.
#[derive(Debug, Default)]
pub struct Gather {
    // Most bodies come in one frame, which needs no list.
    first: Option<Bytes>,
    frames: Vec<Bytes>,
    crumbs: BytesMut,
    len: usize,
}

/// So many frames are kept as they came, whatever their size.
const FREE_FRAMES: usize = 16;
/// From then on, frames smaller than this are copied together.
const CRUMB: usize = 1024;

impl Gather {
    /// Takes the next frame.
    pub fn push(&mut self, frame: Bytes) {
        self.len += frame.len();
        if self.len == frame.len() {
            self.first = Some(frame);
            return;
        }
        if self.frames.len() >= FREE_FRAMES && frame.len() < CRUMB {
            self.crumbs.extend_from_slice(&frame);
            if self.crumbs.len() >= 16 * CRUMB {
                self.frames.push(self.crumbs.split().freeze());
            }
            return;
        }
        if !self.crumbs.is_empty() {
            self.frames.push(self.crumbs.split().freeze());
        }
        self.frames.push(frame);
    }

    /// Bytes taken so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was taken.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What was taken.
    pub fn frames(self) -> impl Iterator<Item = Bytes> {
        let crumbs = Some(self.crumbs.freeze()).filter(|crumbs| !crumbs.is_empty());
        self.first.into_iter().chain(self.frames).chain(crumbs)
    }

    /// What was taken, as one text: copied only if it came in more than one frame.
    pub fn text(&self) -> Bytes {
        match &self.first {
            Some(only) if only.len() == self.len => only.clone(),
            _ => {
                let mut text = BytesMut::with_capacity(self.len);
                let frames = self.first.iter().chain(&self.frames);
                frames.for_each(|frame| text.extend_from_slice(frame));
                text.extend_from_slice(&self.crumbs);
                text.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_in_tiny_pieces_is_held_in_few_frames() {
        let mut gather = Gather::default();
        for at in 0..100_000_u32 {
            gather.push(Bytes::copy_from_slice(&[at.to_le_bytes()[0]]));
        }
        assert_eq!(gather.len(), 100_000);
        let text = gather.text();
        let frames: Vec<_> = gather.frames().collect();
        assert!(frames.len() <= 24, "{} frames", frames.len());
        assert_eq!(text, frames.concat());
        let joined: Vec<u8> = frames.concat();
        assert!(
            joined
                .iter()
                .zip(0_u32..)
                .all(|(byte, at)| *byte == at.to_le_bytes()[0])
        );
        assert_eq!(joined.len(), 100_000);
    }
}
