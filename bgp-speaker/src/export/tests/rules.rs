//! Rules of single RFCs.
