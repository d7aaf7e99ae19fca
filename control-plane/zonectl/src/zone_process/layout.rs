//! Which processes a zone has on this machine, and where each listens and keeps its data.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use super::ProcessError;

/// One process of a zone. Counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A member of the control plane.
    Member(u32),
    IndexNode(u32),
}

impl Role {
    /// For people, and for directories: counted from 1.
    pub fn name(self) -> String {
        match self {
            Self::Member(ordinal) => format!("member-{}", ordinal + 1),
            Self::IndexNode(ordinal) => format!("node-{}", ordinal + 1),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name())
    }
}

/// Where a process runs that does not run like the others: in a network namespace, say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The address that it listens at, and at which the others reach it.
    pub host: String,
    /// The command in front of its own, such as `nsenter --net=…`. It must end by becoming what comes
    /// after it, so that its process id is the process's.
    pub launcher: Vec<String>,
}

/// A zone on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub members: u32,
    pub index_nodes: u32,
    /// Member i listens at P + i and shows metrics at P + 10 + i; node i at P + 100 + i and
    /// P + 200 + i.
    pub base_port: u16,
    /// The address of this machine at which the processes listen.
    pub host: String,
    /// Processes that run elsewhere than at `host`.
    pub places: BTreeMap<Role, Place>,
    /// Each process has a directory in it; logs are in `logs`.
    pub data: PathBuf,
    /// More arguments for every member.
    pub member_arguments: Vec<String>,
    /// More arguments for every index node.
    pub index_node_arguments: Vec<String>,
}

const MEMBERS_MAX: u32 = 5;
const INDEX_NODES_MAX: u32 = 100;

impl Layout {
    pub fn new(members: u32, index_nodes: u32, base_port: u16, data: impl Into<PathBuf>) -> Self {
        Self {
            members,
            index_nodes,
            base_port,
            host: "127.0.0.1".to_owned(),
            places: BTreeMap::new(),
            data: data.into(),
            member_arguments: Vec::new(),
            index_node_arguments: Vec::new(),
        }
    }

    /// # Errors
    /// If no zone can look like this.
    pub fn check(&self) -> Result<(), ProcessError> {
        let impossible = |problem: String| Err(ProcessError::Impossible(problem));
        if self.members.is_multiple_of(2) || self.members > MEMBERS_MAX {
            return impossible(format!(
                "a control plane of {} members is not possible; 1, 3 or 5 are",
                self.members
            ));
        }
        if self.index_nodes == 0 || self.index_nodes > INDEX_NODES_MAX {
            return impossible(format!(
                "{} index nodes are not possible; 1 to {INDEX_NODES_MAX} are",
                self.index_nodes
            ));
        }
        if self.base_port == 0 || self.base_port > u16::MAX - 300 {
            return impossible(format!(
                "the base port {} leaves no room for the other ports; 1 to {} do",
                self.base_port,
                u16::MAX - 300
            ));
        }
        Ok(())
    }

    /// Members first.
    pub fn roles(&self) -> impl Iterator<Item = Role> {
        self.member_roles().chain(self.index_node_roles())
    }

    pub fn member_roles(&self) -> impl Iterator<Item = Role> + use<> {
        (0..self.members).map(Role::Member)
    }

    pub fn index_node_roles(&self) -> impl Iterator<Item = Role> + use<> {
        (0..self.index_nodes).map(Role::IndexNode)
    }

    fn port(&self, role: Role) -> u16 {
        let offset = match role {
            Role::Member(ordinal) => ordinal,
            Role::IndexNode(ordinal) => 100 + ordinal,
        };
        self.base_port + u16::try_from(offset).expect("checked: at most 5 members and 100 nodes")
    }

    fn metrics_port(&self, role: Role) -> u16 {
        let offset = match role {
            Role::Member(_) => 10,
            Role::IndexNode(_) => 100,
        };
        self.port(role) + offset
    }

    fn host(&self, role: Role) -> &str {
        self.places.get(&role).map_or(&self.host, |place| &place.host)
    }

    /// host:port of the process's gRPC server.
    pub fn address(&self, role: Role) -> String {
        format!("{}:{}", self.host(role), self.port(role))
    }

    /// host:port of the process's `/metrics`.
    pub fn metrics_address(&self, role: Role) -> String {
        format!("{}:{}", self.host(role), self.metrics_port(role))
    }

    /// Every port, and what for.
    pub fn ports(&self) -> impl Iterator<Item = (u16, String)> + '_ {
        self.roles().flat_map(|role| {
            [(self.port(role), role.name()), (self.metrics_port(role), format!("{role} (metrics)"))]
        })
    }

    /// host:port of each member, for `--endpoints`.
    pub fn endpoints(&self) -> Vec<String> {
        self.member_roles().map(|role| self.address(role)).collect()
    }

    pub fn data_directory(&self, role: Role) -> PathBuf {
        self.data.join(role.name())
    }

    pub fn log_file(&self, role: Role) -> PathBuf {
        self.data.join("logs").join(format!("{role}.log"))
    }

    /// Each index node has a rack of its own.
    pub fn fault_domain(&self, ordinal: u32) -> String {
        // Letters as in spreadsheets: a to z, then aa.
        let mut letters = Vec::new();
        let mut left = ordinal + 1;
        while left > 0 {
            left -= 1;
            letters.push(char::from(b'a' + u8::try_from(left % 26).expect("a remainder below 26")));
            left /= 26;
        }
        let letters: String = letters.iter().rev().collect();
        format!("rack-{letters}")
    }

    /// The machine's cores, shared out among the index nodes: more threads than cores would only
    /// interrupt each other.
    fn cores_each(&self) -> u32 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (u32::try_from(cores).unwrap_or(u32::MAX) / self.index_nodes.max(1)).max(1)
    }

    /// The program to start and its arguments, so that `program` runs as the process.
    pub(super) fn command(&self, role: Role, program: &Path) -> (PathBuf, Vec<String>) {
        let arguments = self.arguments(role);
        let launcher = self.places.get(&role).map_or(&[][..], |place| &place.launcher);
        let Some((first, rest)) = launcher.split_first() else {
            return (program.to_owned(), arguments);
        };
        let own = std::iter::once(program.display().to_string()).chain(arguments);
        (PathBuf::from(first), rest.iter().cloned().chain(own).collect())
    }

    /// The process's command line, without the program.
    pub fn arguments(&self, role: Role) -> Vec<String> {
        let data: &Path = &self.data_directory(role);
        let mut arguments = vec![
            "--data-directory".to_owned(),
            data.display().to_string(),
            "--listen-address".to_owned(),
            self.address(role),
            "--advertised-address".to_owned(),
            self.address(role),
            "--metrics-address".to_owned(),
            self.metrics_address(role),
        ];
        match role {
            Role::Member(_) => arguments.extend(self.member_arguments.iter().cloned()),
            Role::IndexNode(ordinal) => {
                arguments.extend([
                    "--name".to_owned(),
                    role.name(),
                    "--fault-domain".to_owned(),
                    self.fault_domain(ordinal),
                    "--control-plane-endpoints".to_owned(),
                    self.endpoints().join(","),
                    "--cores".to_owned(),
                    self.cores_each().to_string(),
                ]);
                arguments.extend(self.index_node_arguments.iter().cloned());
            }
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_are_where_the_documentation_says() {
        let layout = Layout::new(3, 5, 7_400, "/zone");
        assert_eq!(layout.endpoints(), ["127.0.0.1:7400", "127.0.0.1:7401", "127.0.0.1:7402"]);
        assert_eq!(layout.metrics_address(Role::Member(2)), "127.0.0.1:7412");
        assert_eq!(layout.address(Role::IndexNode(4)), "127.0.0.1:7504");
        assert_eq!(layout.metrics_address(Role::IndexNode(4)), "127.0.0.1:7604");
    }

    #[test]
    fn a_process_elsewhere_has_its_own_address_and_launcher() {
        let mut layout = Layout::new(3, 2, 7_400, "/zone");
        layout.host = "10.0.0.1".into();
        let place = Place {
            host: "10.0.0.2".into(),
            launcher: ["nsenter", "--net=/run/netns/cut"].map(str::to_owned).to_vec(),
        };
        layout.places.insert(Role::IndexNode(1), place);
        assert_eq!(layout.address(Role::IndexNode(0)), "10.0.0.1:7500");
        assert_eq!(layout.address(Role::IndexNode(1)), "10.0.0.2:7501");
        let (program, arguments) = layout.command(Role::IndexNode(1), Path::new("/bin/node"));
        assert_eq!(program, Path::new("nsenter"));
        assert_eq!(arguments[..2], ["--net=/run/netns/cut", "/bin/node"]);
        assert!(arguments.contains(&"10.0.0.2:7501".to_owned()), "{arguments:?}");
        let (program, arguments) = layout.command(Role::IndexNode(0), Path::new("/bin/node"));
        assert_eq!(
            (program.as_path(), &arguments),
            (Path::new("/bin/node"), &layout.arguments(Role::IndexNode(0)),)
        );
    }

    #[test]
    fn no_port_is_used_twice() {
        let layout = Layout::new(5, 100, 7_400, "/zone");
        layout.check().unwrap();
        let ports: BTreeSet<u16> = layout.ports().map(|(port, _)| port).collect();
        assert_eq!(ports.len(), 2 * 105);
    }

    #[test]
    fn every_node_has_a_rack_of_its_own() {
        let layout = Layout::new(3, 100, 7_400, "/zone");
        assert_eq!(layout.fault_domain(0), "rack-a");
        assert_eq!(layout.fault_domain(25), "rack-z");
        assert_eq!(layout.fault_domain(26), "rack-aa");
        let racks: BTreeSet<String> = (0..100).map(|node| layout.fault_domain(node)).collect();
        assert_eq!(racks.len(), 100);
    }

    #[test]
    fn impossible_zones_are_refused() {
        for (members, nodes, port) in [
            (0, 1, 7_400),
            (2, 1, 7_400),
            (7, 1, 7_400),
            (3, 0, 7_400),
            (3, 101, 7_400),
            (3, 5, 65_400),
        ] {
            assert!(Layout::new(members, nodes, port, "/zone").check().is_err());
        }
    }
}
