//! How RocksDB is set up: small enough that eight processes fit on one machine, and predictable rather
//! than fast in bulk.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    ErrorKind, LogLevel, Options,
};

use super::{OpenError, database::Database, directory::Directory};
use crate::store::Family;

const MEBIBYTE: usize = 1 << 20;
/// Ten bits per key: about one wrong answer in a hundred.
const BLOOM_BITS_PER_KEY: f64 = 10.0;

/// What a process may decide about its store.
#[derive(Clone, Debug)]
pub struct RocksOptions {
    /// Written into a new directory, and compared when one is opened again: `control-plane` or
    /// `index-node`.
    pub kind: &'static str,
    /// Memory for blocks that were read, with index and filter blocks.
    pub block_cache_bytes: usize,
    /// Memory for what is written but not yet in files, over all families.
    pub write_buffer_bytes: usize,
    /// Table files kept open.
    pub open_files_max: i32,
    /// Threads that flush and compact.
    pub background_jobs: i32,
}

impl RocksOptions {
    /// The defaults, for a process of `kind`.
    pub fn new(kind: &'static str) -> Self {
        Self {
            kind,
            block_cache_bytes: 32 * MEBIBYTE,
            write_buffer_bytes: 32 * MEBIBYTE,
            open_files_max: 256,
            background_jobs: 2,
        }
    }

    pub(super) fn open_database(
        &self,
        directory: &Directory,
        families: &[Family],
    ) -> Result<Database, OpenError> {
        let database_options = self.database_options();
        let path = directory.engine_path();
        // All families that exist must be opened. One that this release does not name was made by a
        // release with the same format, and is left alone.
        let mut names: Vec<String> = families.iter().map(|family| family.0.to_owned()).collect();
        names.extend(self.existing_families(directory)?);
        names.push(rocksdb::DEFAULT_COLUMN_FAMILY_NAME.to_owned());
        names.sort_unstable();
        names.dedup();
        open(directory, || {
            DB::open_cf_descriptors(&database_options, &path, self.descriptors(names))
        })
    }

    /// The sequence number at which the log ends, found out without a change to any data: opening the
    /// database to write in it cuts its log off behind the first damaged record, and whatever could be
    /// learnt from the rest would be gone.
    pub(super) fn last_sequence(&self, directory: &Directory) -> Result<u64, OpenError> {
        let names = self.existing_families(directory)?;
        if names.is_empty() {
            return Ok(0);
        }
        let mut options = self.database_options();
        options.create_if_missing(false);
        options.create_missing_column_families(false);
        let path = directory.engine_path();
        open(directory, || {
            DB::open_cf_descriptors_read_only(&options, &path, self.descriptors(names), false)
        })
        .map(|database| database.latest_sequence_number())
    }

    /// None if there is no database yet.
    fn existing_families(&self, directory: &Directory) -> Result<Vec<String>, OpenError> {
        let path = directory.engine_path();
        if !path.join("CURRENT").exists() {
            return Ok(Vec::new());
        }
        DB::list_cf(&self.database_options(), &path).map_err(|error| open_error(directory, &error))
    }

    fn descriptors(
        &self,
        names: Vec<String>,
    ) -> impl Iterator<Item = ColumnFamilyDescriptor> + use<> {
        let options = self.family_options();
        names.into_iter().map(move |name| ColumnFamilyDescriptor::new(name, options.clone()))
    }

    fn database_options(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // The write-ahead log: buffered in memory until the flusher writes and syncs it. See the
        // module's documentation for the recovery mode.
        options.set_manual_wal_flush(true);
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_max_total_wal_size(as_u64(2 * self.write_buffer_bytes));
        options.set_recycle_log_file_num(0);
        options.set_paranoid_checks(true);
        options.set_db_write_buffer_size(self.write_buffer_bytes);
        options.set_max_open_files(self.open_files_max);
        options.set_max_background_jobs(self.background_jobs);
        // Write files out steadily, so that the log's syncs do not queue behind a burst.
        options.set_bytes_per_sync(as_u64(MEBIBYTE));
        options.set_compaction_readahead_size(MEBIBYTE);
        options.set_use_fsync(false);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(4 * MEBIBYTE);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options
    }

    fn family_options(&self) -> Options {
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&Cache::new_lru_cache(self.block_cache_bytes));
        tables.set_cache_index_and_filter_blocks(true);
        tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
        tables.set_block_size(16 << 10);
        tables.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
        let mut options = Options::default();
        options.set_block_based_table_factory(&tables);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(self.write_buffer_bytes / 2);
        options.set_max_write_buffer_number(3);
        options.set_target_file_size_base(as_u64(16 * MEBIBYTE));
        options.set_max_bytes_for_level_base(as_u64(64 * MEBIBYTE));
        options.set_level_compaction_dynamic_level_bytes(true);
        options
    }
}

fn as_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a usize has at most 64 bits")
}

fn open(
    directory: &Directory,
    open: impl FnOnce() -> Result<DB, rocksdb::Error>,
) -> Result<Database, OpenError> {
    let ending = || OpenError::Ending { path: directory.path().to_owned() };
    Database::open(open).ok_or_else(ending)?.map_err(|error| open_error(directory, &error))
}

fn open_error(directory: &Directory, error: &rocksdb::Error) -> OpenError {
    let path = directory.path().to_owned();
    let message = error.to_string();
    match error.kind() {
        ErrorKind::Corruption => OpenError::Corrupt { path, message },
        // The marker file is locked as well; this covers two processes that create one directory.
        ErrorKind::IOError if message.contains("/LOCK") => OpenError::Locked { path },
        _ => OpenError::Engine { path, message },
    }
}
