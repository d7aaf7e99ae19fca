//! Keys of the index.

use std::path::PathBuf;

use clap::Args;

/// Which key.
#[derive(Clone, Debug, Args)]
pub struct KeyArguments {
    /// The bucket. An index key is bucket, NUL, object key.
    #[arg(short, long, default_value = "default")]
    pub bucket: String,
    /// The object's key.
    pub key: String,
    /// Bucket and key are written as they are shown: \\ for a backslash, \xNN for any byte.
    #[arg(long)]
    pub escaped: bool,
}

#[derive(Debug, Args)]
pub struct PutArguments {
    #[command(flatten)]
    pub key: KeyArguments,
    /// Tag of the content.
    #[arg(long, default_value = "")]
    pub etag: String,
    /// The object's size in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub size: u64,
    /// Where the object's bytes are.
    #[arg(long, default_value = "")]
    pub location: String,
    /// Anything else to keep with it.
    #[arg(long, default_value = "")]
    pub payload: String,
    /// The same from a file.
    #[arg(long, value_name = "FILE", conflicts_with = "payload")]
    pub payload_file: Option<PathBuf>,
    /// Only if the key is absent.
    #[arg(long)]
    pub if_absent: bool,
    /// Only if the key has exactly this version.
    #[arg(long, value_name = "VERSION", conflicts_with = "if_absent")]
    pub if_version: Option<u64>,
}

#[derive(Debug, Args)]
pub struct GetArguments {
    #[command(flatten)]
    pub key: KeyArguments,
}

#[derive(Debug, Args)]
pub struct DeleteArguments {
    #[command(flatten)]
    pub key: KeyArguments,
    /// Only if the key has exactly this version.
    #[arg(long, value_name = "VERSION")]
    pub if_version: Option<u64>,
}

#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only this bucket. Default: the whole index.
    #[arg(short, long)]
    pub bucket: Option<String>,
    /// Only object keys that start with this.
    #[arg(long, default_value = "", requires = "bucket")]
    pub prefix: String,
    /// Only object keys greater than this one.
    #[arg(long, default_value = "", requires = "bucket")]
    pub start_after: String,
    /// The most keys to show; 0: all.
    #[arg(long, default_value_t = 100)]
    pub limit: u64,
    /// Bucket, prefix and start-after are written as they are shown.
    #[arg(long)]
    pub escaped: bool,
}
