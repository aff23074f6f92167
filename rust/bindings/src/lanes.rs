//! Keys of eight bytes, many at once: the lookups of `hashroute_core`, compiled for registers that
//! hold several of them.
//!
//! Such keys take longer to hash than to read, and their hash is two multiplications of 64 bits:
//! what AVX-512 does to eight keys at once, AVX2 in parts to four, and plain x86-64 to one.
#![allow(unsafe_code, reason = "code for a processor's extensions, called once they are found")]

use hashroute_core::{Ring, Slot};

/// How many keys are hashed before their owners are loaded.
const BLOCK: usize = 64;

/// The owners of `keys`, in their order; `bytes` says which bytes stand for a key.
pub(crate) fn owners<T: Copy>(
    ring: &Ring,
    keys: &[T],
    bytes: impl Fn(T) -> [u8; 8] + Copy,
) -> Vec<u16> {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { with_avx512(ring, keys, bytes) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { with_avx2(ring, keys, bytes) };
        }
    }
    one_by_one(ring, keys, bytes)
}

fn one_by_one<T: Copy>(ring: &Ring, keys: &[T], bytes: impl Fn(T) -> [u8; 8]) -> Vec<u16> {
    keys.iter().map(|key| ring.owner_of_key(&bytes(*key)).get()).collect()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq")]
fn with_avx512<T: Copy>(ring: &Ring, keys: &[T], bytes: impl Fn(T) -> [u8; 8] + Copy) -> Vec<u16> {
    in_blocks(ring, keys, bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<T: Copy>(ring: &Ring, keys: &[T], bytes: impl Fn(T) -> [u8; 8] + Copy) -> Vec<u16> {
    in_blocks(ring, keys, bytes)
}

/// First the slots of a block, which is arithmetic alone, then their owners.
#[inline(always)]
fn in_blocks<T: Copy>(ring: &Ring, keys: &[T], bytes: impl Fn(T) -> [u8; 8] + Copy) -> Vec<u16> {
    let mut owners = vec![0; keys.len()];
    let (blocks, rest) = keys.as_chunks::<BLOCK>();
    let (filled, _) = owners.as_chunks_mut::<BLOCK>();
    for (block, owners) in blocks.iter().zip(filled) {
        let mut slots = [Slot::new(0); BLOCK];
        for (slot, key) in slots.iter_mut().zip(block) {
            *slot = ring.slot(&bytes(*key));
        }
        for (owner, slot) in owners.iter_mut().zip(&slots) {
            *owner = ring.owner(*slot).get();
        }
    }
    owners.truncate(keys.len() - rest.len());
    owners.extend(one_by_one(ring, rest, bytes));
    owners
}

#[cfg(test)]
mod tests {
    use super::*;
    use hashroute_core::{Epoch, Parameters, Pod, PodId, View};

    #[test]
    fn keys_have_the_same_owners_whatever_the_processor_can_do() {
        let pods = ["a", "b", "c"].map(|id| Pod::new(PodId::new(id).unwrap()));
        let view = View::new(Epoch::new(1), Parameters::default(), pods.to_vec()).unwrap();
        let ring = Ring::build(view).unwrap();
        for count in [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 5] {
            let keys: Vec<u64> = (0..).map(|key| key << 40 | !key >> 3).take(count).collect();
            let expected = one_by_one(&ring, &keys, u64::to_le_bytes);
            assert_eq!(owners(&ring, &keys, u64::to_le_bytes), expected);
            assert_eq!(in_blocks(&ring, &keys, u64::to_le_bytes), expected);
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the line above.
                assert_eq!(unsafe { with_avx2(&ring, &keys, u64::to_le_bytes) }, expected);
            }
        }
    }
}
