//! The kernel itself, out of the file that a boot loader would take. Never boots it.

use crate::error::{Error, Result};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the head of a boot image says something: the kernel's Documentation/arch/x86/boot.rst.
const MAGIC: usize = 0x202;
const SETUP_SECTORS: usize = 0x1f1;
const PAYLOAD: usize = 0x248;
const SECTOR: usize = 512;
/// What `SETUP_SECTORS` means when it is 0.
const SECTORS_OF_OLD: u8 = 4;

/// How compressed data begins, which program unpacks it, and how many bytes are not its own: the kernel's build appends
/// the size to formats that do not say it themselves.
const FORMATS: &[(&[u8], &[&str], usize)] = &[
    (b"\xfd7zXZ\0", &["xz", "-dc"], 4),
    (b"\x28\xb5\x2f\xfd", &["zstd", "-dc"], 4),
    (b"\x02\x21\x4c\x18", &["lz4", "-dcq"], 4),
    (b"\x1f\x8b", &["gzip", "-dc"], 0),
];

/// Writes the ELF file that is packed in a boot image: unpacking under emulation would take seconds at each boot.
pub(super) fn unpack(image: &Path, to: &Path) -> Result<()> {
    let file = |path: &Path, source| Error::File { path: path.to_path_buf(), source };
    let bytes = fs::read(image).map_err(|source| file(image, source))?;
    let broken = |detail: &'static str| Error::KernelImage { path: image.to_path_buf(), detail };
    let payload = payload(&bytes).ok_or_else(|| broken("no boot image of protocol 2.08 or later"))?;
    let (_, words, foreign) = FORMATS
        .iter()
        .find(|(magic, ..)| payload.starts_with(magic))
        .ok_or_else(|| broken("compressed in a way that we do not know"))?;
    let packed = &payload[..payload.len().saturating_sub(*foreign)];
    let elf = filter(words, packed)?;
    if !elf.starts_with(b"\x7fELF") {
        return Err(broken("holds no ELF file"));
    }
    fs::write(to, elf).map_err(|source| file(to, source))
}

/// The compressed kernel in a boot image.
fn payload(image: &[u8]) -> Option<&[u8]> {
    if image.get(MAGIC..MAGIC + 4)? != b"HdrS" {
        return None;
    }
    let word = |at: usize| {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let sectors = match *image.get(SETUP_SECTORS)? {
        0 => SECTORS_OF_OLD,
        sectors => sectors,
    };
    let start = (usize::from(sectors) + 1) * SECTOR + word(PAYLOAD)?;
    image.get(start..start.checked_add(word(PAYLOAD + 4)?)?)
}

/// What a program makes of its input.
fn filter(words: &[&str], input: &[u8]) -> Result<Vec<u8>> {
    let command = words.join(" ");
    let start = |source| Error::Start { command: command.clone(), source };
    let mut child =
        Command::new(words[0]).args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(start)?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // A program that ends early says why with its status.
        scope.spawn(move || stdin.is_some_and(|mut pipe| pipe.write_all(input).is_ok()));
        child.wait_with_output()
    })
    .map_err(start)?;
    if output.status.success() { Ok(output.stdout) } else { Err(Error::Failed { command, status: output.status }) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

    use super::*;

    fn image(sectors: u8, offset: u32, payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 5 * SECTOR];
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[SETUP_SECTORS] = sectors;
        image[PAYLOAD..PAYLOAD + 4].copy_from_slice(&offset.to_le_bytes());
        image[PAYLOAD + 4..PAYLOAD + 8].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend(vec![0xee; usize::try_from(offset).unwrap()]);
        image.extend(payload);
        image.extend([0xdd; 9]);
        image
    }

    #[test]
    fn the_payload_begins_after_the_sectors_of_the_set_up() {
        assert_eq!(payload(&image(4, 3, b"kernel")), Some(&b"kernel"[..]));
        assert_eq!(payload(&image(0, 3, b"kernel")), Some(&b"kernel"[..]), "0 means 4");
    }

    #[test]
    fn a_file_cut_short_or_of_another_kind_is_no_image() {
        let whole = image(4, 0, b"kernel");
        assert_eq!(payload(&whole[..whole.len() - 10]), None);
        assert_eq!(payload(&whole[..0x210]), None);
        assert_eq!(payload(&[0; 4096]), None);
        assert_eq!(payload(&image(4, 0, b"")).map(<[u8]>::len), Some(0));
    }

    #[test]
    fn what_is_unpacked_is_the_elf_file_and_nothing_else_is_taken() {
        let folder = std::env::temp_dir().join(format!("cnidarian-xtask-image-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (from, to) = (folder.join("bzImage"), folder.join("vmlinux"));
        let elf = b"\x7fELF and so on";
        for words in [&["xz", "-c"][..], &["lz4", "-lcq"], &["zstd", "-cq"], &["gzip", "-c"]] {
            let mut packed = filter(words, elf).unwrap();
            if words[0] != "gzip" {
                packed.extend(u32::try_from(elf.len()).unwrap().to_le_bytes());
            }
            fs::write(&from, image(4, 64, &packed)).unwrap();
            unpack(&from, &to).unwrap();
            assert_eq!(fs::read(&to).unwrap(), elf);
        }
        for not_a_kernel in [&b"plain text"[..], &filter(&["gzip", "-c"], b"text").unwrap()] {
            fs::write(&from, image(4, 64, not_a_kernel)).unwrap();
            assert!(matches!(unpack(&from, &to), Err(Error::KernelImage { .. })));
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
