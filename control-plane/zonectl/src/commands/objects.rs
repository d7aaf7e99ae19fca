//! `zonectl put|get|delete|list`.

use std::pin::pin;

use bytes::Bytes;
use client::{Condition, ListOptions, ObjectMetadata, Version, index_key};
use futures_util::TryStreamExt;

use super::Context;
use crate::{
    arguments::{DeleteArguments, GetArguments, KeyArguments, ListArguments, PutArguments},
    failure::Failure,
    forms::{DeletedForm, ItemForm, ListForm, PutForm},
    tables,
    text::{show_key, unescape},
};

fn bytes(text: &str, escaped: bool) -> Result<Bytes, Failure> {
    if escaped {
        unescape(text).map_err(Failure::Usage)
    } else {
        Ok(Bytes::copy_from_slice(text.as_bytes()))
    }
}

/// A bucket's name; the NUL that ends it cannot be a part of it.
fn bucket(text: &str, escaped: bool) -> Result<Bytes, Failure> {
    let bucket = bytes(text, escaped)?;
    if bucket.contains(&0) {
        return Err(Failure::Usage(format!("the bucket {text:?} has a NUL in it, which ends it")));
    }
    Ok(bucket)
}

fn key(arguments: &KeyArguments) -> Result<Bytes, Failure> {
    let bucket = bucket(&arguments.bucket, arguments.escaped)?;
    Ok(index_key(&bucket, &bytes(&arguments.key, arguments.escaped)?))
}

pub async fn put(context: &Context, arguments: PutArguments) -> Result<(), Failure> {
    let key = key(&arguments.key)?;
    let user_payload = match &arguments.payload_file {
        Some(file) => {
            let what = format!("cannot read the payload from {}", file.display());
            std::fs::read(file).map_err(Failure::io(what))?.into()
        }
        None => Bytes::from(arguments.payload.into_bytes()),
    };
    let value = ObjectMetadata {
        etag: arguments.etag.into(),
        size_bytes: arguments.size,
        location: arguments.location.into(),
        user_payload,
    };
    let condition = if arguments.if_absent {
        Some(Condition::Absent)
    } else {
        arguments.if_version.map(|version| Condition::VersionEquals(Version(version)))
    };
    let version = context.client().await?.put(key.clone(), value, condition).await?;
    context.show(&PutForm { version: version.0 }, |put| {
        format!("{} has version {} now.", show_key(&key), put.version)
    })
}

pub async fn get(context: &Context, arguments: &GetArguments) -> Result<(), Failure> {
    let key = key(&arguments.key)?;
    match context.client().await?.get(key.clone()).await? {
        Some(item) => {
            let list = ListForm { items: vec![ItemForm::from(item)], more: false };
            context.show(&list.items[0], |_| tables::list(&list))
        }
        None => Err(Failure::Command(format!("{} does not exist", show_key(&key)))),
    }
}

pub async fn delete(context: &Context, arguments: &DeleteArguments) -> Result<(), Failure> {
    let key = key(&arguments.key)?;
    let condition = arguments.if_version.map(|version| Condition::VersionEquals(Version(version)));
    let deleted = context.client().await?.delete(key.clone(), condition).await?;
    context.show(&DeletedForm::from(deleted), |deleted| {
        let key = show_key(&key);
        if deleted.existed { format!("{key} is deleted.") } else { format!("{key} did not exist.") }
    })
}

pub async fn list(context: &Context, arguments: &ListArguments) -> Result<(), Failure> {
    let client = context.client().await?;
    let mut options = ListOptions::default();
    if let Some(name) = &arguments.bucket {
        let bucket = bucket(name, arguments.escaped)?;
        options.prefix = index_key(&bucket, &bytes(&arguments.prefix, arguments.escaped)?);
        if !arguments.start_after.is_empty() {
            let after = bytes(&arguments.start_after, arguments.escaped)?;
            options.start_after = index_key(&bucket, &after);
        }
    }
    let limit = match arguments.limit {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    // One more than asked for tells whether there are more.
    options.limit = u64::try_from(limit).ok().map(|limit| limit.saturating_add(1));
    let mut items = pin!(client.list(options));
    let mut list = ListForm { items: Vec::new(), more: false };
    while let Some(item) = items.try_next().await? {
        if list.items.len() == limit {
            list.more = true;
            break;
        }
        list.items.push(item.into());
    }
    context.show(&list, tables::list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(bucket: &str, key: &str, escaped: bool) -> KeyArguments {
        KeyArguments { bucket: bucket.into(), key: key.into(), escaped }
    }

    #[test]
    fn keys_are_taken_literally_unless_said_otherwise() {
        let literal = key(&arguments("b", "a\\x00", false)).unwrap();
        assert_eq!(literal.as_ref(), b"b\0a\\x00");
        let escaped = key(&arguments("b", "a\\x00", true)).unwrap();
        assert_eq!(escaped.as_ref(), b"b\0a\0");
        assert!(matches!(key(&arguments("b\\x00c", "k", true)), Err(Failure::Usage(_))));
        assert!(matches!(key(&arguments("b", "k\\", true)), Err(Failure::Usage(_))));
    }
}
