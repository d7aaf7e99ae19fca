//! Bad input and bad circumstances. Each gets a precise status and words that say what was wrong, and
//! changes nothing.

mod configuration;
mod directories;
mod disk;
mod garbage;
mod identities;
mod init;
mod operator;
mod orders;
mod registrations;
mod writes;
