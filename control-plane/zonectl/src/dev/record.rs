//! What a data directory remembers of its zone: members keep each other's addresses, so a zone that was
//! made with one layout cannot be started with another.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::{failure::Failure, text::count, zone_process::Layout};

const FILE: &str = "dev-zone.json";

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    members: u32,
    index_nodes: u32,
    base_port: u16,
}

/// Checks the layout against the one that the directory was made with. More index nodes than before are
/// fine, and are remembered.
///
/// # Errors
/// If the zone in the directory looks different, or the record cannot be read or written.
pub fn check(layout: &Layout) -> Result<(), Failure> {
    let path = layout.data.join(FILE);
    let shown = path.display();
    if let Some(known) = read(&path)?
        && (known.members != layout.members
            || known.base_port != layout.base_port
            || known.index_nodes > layout.index_nodes)
    {
        return Err(Failure::Command(format!(
            "{data} holds a zone of {counted_members} and {counted_nodes} from port {port}. \
             Start it with --members {members} --index-nodes {nodes} --base-port {port}, or another \
             one with another --data; to begin anew, delete {data}",
            data = layout.data.display(),
            counted_members = count(known.members.into(), "member", "members"),
            counted_nodes = count(known.index_nodes.into(), "index node", "index nodes"),
            members = known.members,
            nodes = known.index_nodes,
            port = known.base_port,
        )));
    }
    let record = Record {
        members: layout.members,
        index_nodes: layout.index_nodes,
        base_port: layout.base_port,
    };
    let text = serde_json::to_string(&record).expect("three numbers can be written as JSON");
    fs::write(&path, text).map_err(Failure::io(format!("cannot write {shown}")))
}

fn read(path: &Path) -> Result<Option<Record>, Failure> {
    let shown = path.display();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::io(format!("cannot read {shown}"))(error)),
    };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        Failure::Command(format!(
            "{shown} is damaged ({error}); is this the directory of a dev zone?"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_started_as_it_was_made() {
        let directory = tempfile::tempdir().unwrap();
        let layout = |members, nodes, port| Layout::new(members, nodes, port, directory.path());
        check(&layout(3, 5, 7_400)).unwrap();
        check(&layout(3, 5, 7_400)).unwrap();
        for other in [layout(1, 5, 7_400), layout(3, 4, 7_400), layout(3, 5, 8_000)] {
            let error = check(&other).unwrap_err().to_string();
            assert!(error.contains("--members 3 --index-nodes 5 --base-port 7400"), "{error}");
        }
        check(&layout(3, 6, 7_400)).unwrap();
        assert!(check(&layout(3, 5, 7_400)).is_err());
        fs::write(directory.path().join(FILE), "{").unwrap();
        assert!(check(&layout(3, 6, 7_400)).unwrap_err().to_string().contains("damaged"));
    }
}
