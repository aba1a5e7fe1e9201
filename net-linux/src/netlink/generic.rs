//! Families of generic netlink: their numbers, found by name. Never what their messages say.

use super::{Attrs, Error, Message, Result, Socket};

/// `include/uapi/linux/genetlink.h`.
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_VERSION: u8 = 1;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// Bytes of `struct genlmsghdr`.
const HEADER_BYTES: usize = 4;

/// A family that this kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// The message type of its requests.
    pub(crate) id: u16,
    version: u8,
}

impl Family {
    /// Looks a family up; the kernel loads the module that says it has it.
    ///
    /// # Errors
    /// [`Error::Kernel`] with `ENOENT`: this kernel has no such family.
    pub(crate) fn find(socket: &mut Socket, name: &str, version: u8) -> Result<Self> {
        let object = format!("generic netlink family {name}");
        let found = socket.query(
            "find",
            &object,
            GENL_ID_CTRL,
            0,
            |message| {
                message.raw(&[CTRL_CMD_GETFAMILY, CTRL_VERSION, 0, 0]).text(CTRL_ATTR_FAMILY_NAME, name);
            },
            |_, payload| Self::attributes(payload).get(CTRL_ATTR_FAMILY_ID)?.u16(),
        )?;
        let id = found.first().copied();
        let missing = || Error::Missing { operation: "find", object, missing: "its number".to_owned() };
        Ok(Self { id: id.ok_or_else(missing)?, version })
    }

    /// Begins a request.
    pub(crate) fn command(self, message: &mut Message<'_>, command: u8) {
        message.raw(&[command, self.version, 0, 0]);
    }

    /// What stands behind the header of a message of any family.
    pub(crate) fn attributes(payload: &[u8]) -> Attrs<'_> {
        Attrs::after(payload, HEADER_BYTES)
    }
}
