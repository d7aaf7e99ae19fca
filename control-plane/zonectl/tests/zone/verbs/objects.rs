//! `zonectl put|get|delete|list`.

use serde_json::Value;
use zonectl::text::unescape;

use super::has_fields;
use crate::support::{program::Zonectl, shared::shared};

const ITEM: [&str; 7] =
    ["bucket", "key", "version", "etag", "size_bytes", "location", "user_payload"];

fn keys(listing: &Value) -> Vec<&str> {
    let items = listing["items"].as_array().unwrap();
    items.iter().map(|item| item["key"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn put_get_and_delete() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let at =
        |verb, more: &[&'static str]| [&[verb, "--bucket", "photos", "cat.jpg"], more].concat();
    let absent = zonectl.run(&at("get", &[])).await;
    absent.refused(1, &["photos/cat.jpg does not exist"]);
    let put = zonectl
        .json(&at(
            "put",
            &["--etag", "e1", "--size", "1234", "--location", "disk-3/17", "--payload", "p"],
        ))
        .await;
    has_fields(&put, &["version"]);
    let got = zonectl.json(&at("get", &[])).await;
    has_fields(&got, &ITEM);
    let expected = serde_json::json!({
        "bucket": "photos", "key": "cat.jpg", "version": put["version"], "etag": "e1",
        "size_bytes": 1234, "location": "disk-3/17", "user_payload": "p"
    });
    assert_eq!(got, expected);
    let text = zonectl.text(&at("get", &[])).await;
    for word in ["photos", "cat.jpg", "1234", "disk-3/17", "1 key."] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
    let text = zonectl.text(&at("put", &["--payload", "q"])).await;
    assert!(text.starts_with("photos/cat.jpg has version "), "{text}");
    let deleted = zonectl.json(&at("delete", &[])).await;
    has_fields(&deleted, &["version", "existed"]);
    assert_eq!(deleted["existed"], true);
    let text = zonectl.text(&at("delete", &[])).await;
    assert_eq!(text.trim(), "photos/cat.jpg did not exist.");
    zonectl.text(&at("put", &[])).await;
    assert_eq!(zonectl.text(&at("delete", &[])).await.trim(), "photos/cat.jpg is deleted.");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let made = zonectl.json(&["put", "conditional", "--payload", "1", "--if-absent"]).await;
    let version = made["version"].to_string();
    let again = zonectl.run(&["put", "conditional", "--if-absent"]).await;
    again.refused(1, &["the condition does not hold", &format!("version {version}")]);
    let wrong = zonectl.run(&["put", "conditional", "--if-version", "999999"]).await;
    wrong.refused(1, &["the condition does not hold", &version]);
    let wrong = zonectl.run(&["delete", "conditional", "--if-version", "999999"]).await;
    wrong.refused(1, &["the condition does not hold", &version]);
    assert_eq!(zonectl.json(&["get", "conditional"]).await["user_payload"], "1");
    let replaced =
        zonectl.json(&["put", "conditional", "--payload", "2", "--if-version", &version]).await;
    let version = replaced["version"].to_string();
    let deleted = zonectl.json(&["delete", "conditional", "--if-version", &version]).await;
    assert_eq!(deleted["existed"], true);
    let gone = zonectl.run(&["put", "conditional", "--if-version", &version]).await;
    gone.refused(1, &["the condition does not hold", "absent"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn list_with_prefix_start_after_and_limit() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    for key in ["2023/a", "2024/a", "2024/b", "2024/c", "2025/a"] {
        zonectl.text(&["put", "-b", "album", key]).await;
    }
    // Other buckets are on other partitions: the whole listing goes over all of them.
    for bucket in ["0first", "zlast"] {
        zonectl.text(&["put", "-b", bucket, "k"]).await;
    }
    let all = zonectl.json(&["list", "-b", "album"]).await;
    has_fields(&all, &["items", "more"]);
    has_fields(&all["items"][0], &ITEM);
    assert_eq!(keys(&all), ["2023/a", "2024/a", "2024/b", "2024/c", "2025/a"]);
    assert_eq!(all["more"], false);
    let year = zonectl.json(&["list", "-b", "album", "--prefix", "2024/"]).await;
    assert_eq!(keys(&year), ["2024/a", "2024/b", "2024/c"]);
    let after = ["list", "-b", "album", "--prefix", "2024/", "--start-after", "2024/a"];
    assert_eq!(keys(&zonectl.json(&after).await), ["2024/b", "2024/c"]);
    let limited = zonectl.json(&["list", "-b", "album", "--limit", "2"]).await;
    assert_eq!((keys(&limited).len(), &limited["more"]), (2, &Value::Bool(true)));
    let exact = zonectl.json(&["list", "-b", "album", "--limit", "5"]).await;
    assert_eq!((keys(&exact).len(), &exact["more"]), (5, &Value::Bool(false)));
    let none = zonectl.json(&["list", "-b", "album", "--prefix", "2026/"]).await;
    assert!(keys(&none).is_empty());

    let whole = zonectl.json(&["list", "--limit", "0"]).await;
    let buckets: Vec<&str> = whole["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["bucket"].as_str().unwrap_or_default())
        .collect();
    let order: Vec<_> = buckets.iter().map(|bucket| unescape(bucket).unwrap()).collect();
    assert!(order.is_sorted(), "{buckets:?}");
    for bucket in ["0first", "album", "zlast"] {
        assert!(buckets.contains(&bucket), "{bucket} is not in {buckets:?}");
    }
    let text = zonectl.text(&["list", "-b", "album", "--limit", "2"]).await;
    for word in ["2023/a", "2024/a", "2 keys.", "There are more"] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_keys_and_values() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let file = zone.directory().join("payload");
    std::fs::write(&file, [0, 0xff, b'\\', b'x']).unwrap();
    let path = file.to_str().unwrap();
    let key = "a\\x00\\xff\\\\b\\x1b[31m";
    zonectl.text(&["put", "-b", "bin\\xfe", key, "--escaped", "--payload-file", path]).await;
    let got = zonectl.json(&["get", "-b", "bin\\xfe", key, "--escaped"]).await;
    assert_eq!(got["bucket"], "bin\\xfe");
    assert_eq!(got["key"], key);
    assert_eq!(got["user_payload"], "\\x00\\xff\\\\x");
    let listed = zonectl.json(&["list", "-b", "bin\\xfe", "--escaped", "--prefix", "a\\x00"]).await;
    assert_eq!(keys(&listed), [key]);
    let text = zonectl.text(&["list", "-b", "bin\\xfe", "--escaped"]).await;
    assert!(!text.contains('\u{1b}'), "nothing that a terminal obeys");
    // Without --escaped, a backslash is one.
    zonectl.run(&["get", "-b", "bin\\xfe", key]).await.refused(1, &["does not exist"]);
    zonectl.text(&["delete", "-b", "bin\\xfe", key, "--escaped"]).await;
    let missing = zonectl.run(&["put", "k", "--payload-file", "/nonexistent/payload"]).await;
    missing.refused(1, &["/nonexistent/payload"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_values_over_the_limit() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let long = "k".repeat(4_097);
    for verb in ["put", "get", "delete"] {
        zonectl.run(&[verb, &long]).await.refused(1, &["4105 bytes", "4096"]);
    }
    let file = zone.directory().join("large");
    std::fs::write(&file, vec![b'x'; 65_537]).unwrap();
    let large = zonectl.run(&["put", "large", "--payload-file", file.to_str().unwrap()]).await;
    large.refused(1, &["65536"]);
    zonectl.run(&["get", "large"]).await.refused(1, &["does not exist"]);
    let etag = "e".repeat(257);
    zonectl.run(&["put", "k", "--etag", &etag]).await.refused(1, &["etag", "257", "256"]);
}
