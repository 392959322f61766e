//! `inbound` runs in a network namespace and has no way to ask in which. So there is one instance of it a namespace: the
//! same instructions with the namespace's cookie and the slots of its listeners put into them. All share the maps.

use std::collections::HashMap;
use std::os::fd::{OwnedFd, RawFd};

use aya_obj::generated::bpf_insn;
use nodetap_ebpf_common::{NETNS_PLACEHOLDER, SLOT_PLACEHOLDER};

use super::{Error, SK_LOOKUP, wire};

/// BPF_LD | BPF_IMM | BPF_DW: takes two places, with a half of the constant in each.
const LOAD_CONSTANT: u64 = 0x18;
/// Code and registers of an instruction, without its constant; the source register is 0 for a plain constant.
const WITHOUT_CONSTANT: u64 = 0xffff_f0ff;

/// The instructions, with their maps put in but not their constants.
#[derive(Debug)]
pub(super) struct Template {
    instructions: Vec<u64>,
    netns: usize,
    slot: usize,
}

impl Template {
    /// From the object, and the descriptors of the maps that were made for it.
    pub(super) fn of(object: &[u8], maps: &HashMap<String, RawFd>) -> Result<Self, Error> {
        let mut object = aya_obj::Object::parse(object).map_err(aya::EbpfError::from)?;
        let described = std::mem::take(&mut object.maps);
        let sections = object.functions.keys().map(|(section, _)| *section).collect();
        let with_descriptors = described.iter().filter_map(|(name, map)| Some((name.as_str(), *maps.get(name)?, map)));
        object.relocate_maps(with_descriptors, &sections).map_err(aya::EbpfError::from)?;
        object.relocate_calls(&sections).map_err(aya::EbpfError::from)?;
        let program = object.programs.get(SK_LOOKUP).ok_or(Error::Missing(SK_LOOKUP))?;
        let function = object.functions.get(&program.function_key()).ok_or(Error::Missing(SK_LOOKUP))?;
        Self::from_instructions(function.instructions.iter().map(word).collect())
    }

    fn from_instructions(instructions: Vec<u64>) -> Result<Self, Error> {
        let netns = only(&instructions, NETNS_PLACEHOLDER)?;
        let slot = only(&instructions, SLOT_PLACEHOLDER)?;
        Ok(Self { instructions, netns, slot })
    }

    /// The program for one namespace.
    pub(super) fn load(&self, netns: u64, slot: u32) -> Result<OwnedFd, Error> {
        wire::load_sk_lookup(SK_LOOKUP, &self.with(netns, slot)).map_err(Error::Instance)
    }

    fn with(&self, netns: u64, slot: u32) -> Vec<u64> {
        let mut instructions = self.instructions.clone();
        for (at, constant) in [(self.netns, netns), (self.slot, u64::from(slot))] {
            for (half, part) in [(at, constant & 0xffff_ffff), (at + 1, constant >> 32)] {
                if let Some(instruction) = instructions.get_mut(half) {
                    *instruction = (*instruction & 0xffff_ffff) | (part << 32);
                }
            }
        }
        instructions
    }
}

/// An instruction as it lies in memory on a little-endian machine.
fn word(instruction: &bpf_insn) -> u64 {
    u64::from_le_bytes({
        let [offset_low, offset_high] = instruction.off.to_le_bytes();
        let [a, b, c, d] = instruction.imm.to_le_bytes();
        [instruction.code, instruction.dst_reg() | instruction.src_reg() << 4, offset_low, offset_high, a, b, c, d]
    })
}

/// Where the one instruction is that loads this constant.
fn only(instructions: &[u64], constant: u64) -> Result<usize, Error> {
    let loads = |pair: &[u64]| {
        pair[0] & WITHOUT_CONSTANT == LOAD_CONSTANT
            && pair[0] >> 32 == constant & 0xffff_ffff
            && pair[1] >> 32 == constant >> 32
    };
    let mut found = instructions.windows(2).enumerate().filter(|(_, pair)| loads(pair));
    match (found.next(), found.next()) {
        (Some((at, _)), None) => Ok(at),
        _ => Err(Error::Missing("a place for the namespace's cookie")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `r3 = constant ll`.
    fn load(constant: u64) -> [u64; 2] {
        [0x0318 | (constant & 0xffff_ffff) << 32, constant >> 32 << 32]
    }

    #[test]
    fn the_constants_of_a_namespace_replace_the_placeholders_and_nothing_else() {
        let exit = 0x95;
        let template =
            |instructions: &[[u64; 2]]| Template::from_instructions([&instructions.concat()[..], &[exit]].concat());
        let found = template(&[load(7), load(NETNS_PLACEHOLDER), load(SLOT_PLACEHOLDER)]).unwrap();
        let expected = [&[load(7), load(0x1_0000_0002), load(6)].concat()[..], &[exit]].concat();
        assert_eq!(found.with(0x1_0000_0002, 6), expected);
        assert!(template(&[load(NETNS_PLACEHOLDER)]).is_err(), "no slot");
        let twice = [load(NETNS_PLACEHOLDER), load(NETNS_PLACEHOLDER), load(SLOT_PLACEHOLDER)];
        assert!(template(&twice).is_err(), "which of the two?");
    }

    #[test]
    fn the_embedded_object_has_both_placeholders() {
        let object = aya_obj::Object::parse(super::super::OBJECT).unwrap();
        let program = object.programs.get(SK_LOOKUP).unwrap();
        let function = object.functions.get(&program.function_key()).unwrap();
        Template::from_instructions(function.instructions.iter().map(word).collect()).unwrap();
    }
}
