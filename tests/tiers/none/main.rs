//! What anybody can test: the command line, and the data plane behind `nodetap proxy`, without privileges.

mod command_line;
mod peers;
mod recording;
mod tunnel;
