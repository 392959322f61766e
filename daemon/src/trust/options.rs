//! What is said about TLS on the command line.
