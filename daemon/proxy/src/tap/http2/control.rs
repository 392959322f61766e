//! Frames that steer: SETTINGS, RST_STREAM, GOAWAY (RFC 9113 §6.4, §6.5, §6.8), and those of which nothing but their
//! shape matters to a tap.

use super::super::{Context, Side};
use super::ends::{refused, reset};
use super::flaw::Broken;
use super::frame::{ACK, Frame, Kind};
use super::{Http2, opener};

const HEADER_TABLE_SIZE: u16 = 0x1;
const MAX_FRAME_SIZE: u16 = 0x5;

impl Http2 {
    /// A frame without content for a message is whole.
    pub(super) fn control(&mut self, from: Side, frame: &Frame, cx: &mut Context<'_>) -> Result<(), Broken> {
        let of_connection = match frame.kind {
            Kind::Settings | Kind::Ping | Kind::GoAway => Some(true),
            Kind::Reset | Kind::Priority => Some(false),
            _ => None,
        };
        let length_ok = match frame.kind {
            Kind::Reset | Kind::WindowUpdate => frame.length == 4,
            Kind::Ping => frame.length == 8,
            Kind::Priority => frame.length == 5,
            Kind::GoAway => frame.length >= 8,
            Kind::Settings if !frame.length.is_multiple_of(6) => return Err(Broken::Settings),
            Kind::Settings => !frame.has(ACK) || frame.length == 0,
            _ => true,
        };
        if of_connection.is_some_and(|of_connection| of_connection != (frame.stream == 0)) {
            self.note(from, Broken::WrongStream);
        } else if !length_ok {
            self.note(from, Broken::ControlLength);
        } else {
            match frame.kind {
                Kind::Reset => self.reset(from, frame, cx),
                Kind::GoAway => self.go_away(from, frame, cx),
                Kind::WindowUpdate if frame.stream != 0 && !self.streams.contains_key(&frame.stream) => {
                    self.note_unknown(from, frame.stream);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes a piece of SETTINGS: the other side may go by it from here on.
    pub(super) fn settings(&mut self, from: Side, frame: &Frame, piece: &[u8]) {
        if frame.has(ACK) || frame.stream != 0 {
            return;
        }
        let (mut setting, mut have) = self.lane(from).setting;
        for byte in piece {
            if let Some(place) = setting.get_mut(have) {
                *place = *byte;
            }
            have += 1;
            if have == setting.len() {
                have = 0;
                let [high, low, value @ ..] = setting;
                let value = u32::from_be_bytes(value);
                let other = self.lane(from.other());
                match u16::from_be_bytes([high, low]) {
                    HEADER_TABLE_SIZE => other.decoder.allow(value),
                    MAX_FRAME_SIZE => other.frames.allow(value),
                    _ => {}
                }
            }
        }
        self.lane(from).setting = (setting, have);
    }

    fn reset(&mut self, from: Side, frame: &Frame, cx: &mut Context<'_>) {
        match self.streams.get(&frame.stream) {
            Some(stream) => {
                let fault = reset(from, frame.field(0), stream.stand());
                self.close(frame.stream, Some(fault), cx);
            }
            None => self.note_unknown(from, frame.stream),
        }
    }

    fn go_away(&mut self, from: Side, frame: &Frame, cx: &mut Context<'_>) {
        let (last, code) = (frame.field(0) & 0x7fff_ffff, frame.field(4));
        self.ends.note_go_away(from, code);
        let lane = self.lane(from.other());
        let last = lane.refused_above.map_or(last, |before| before.min(last));
        lane.refused_above = Some(last);
        for (_, stream) in self.take_streams(|id| id > last && opener(id) != from) {
            stream.finish(Some(refused(from)), &mut self.held, cx);
        }
    }
}
