//! What is refused, and in which words.

use model::reassignment::{
    Problem,
    form::{
        BalanceForm, DistancesForm, FORM_VERSION, GroupForm, MovesForm, NodeForm, ProblemForm,
        ReplicaForm, ResourceForm,
    },
};

fn small() -> ProblemForm {
    let node = |name: &str| NodeForm {
        name: name.into(),
        fault_domain: format!("rack-of-{name}"),
        location: None,
        capacity: vec![10],
        target: vec![5],
        may_receive: true,
        may_hold: true,
    };
    let replica = |name: &str, node: &str| ReplicaForm {
        name: name.into(),
        group: "g".into(),
        node: Some(node.into()),
        demand: vec![3],
        move_cost: 1,
    };
    ProblemForm {
        version: FORM_VERSION,
        resources: vec![ResourceForm { name: "cpu".into(), transient: false, load_weight: 1 }],
        nodes: vec![node("n0"), node("n1")],
        groups: vec![GroupForm { name: "g".into(), spread_min: 2 }],
        replicas: vec![replica("r0", "n0"), replica("r1", "n1")],
        balances: vec![],
        moves: MovesForm::default(),
    }
}

/// The refusal of the problem after a change.
fn refusal(change: impl FnOnce(&mut ProblemForm)) -> String {
    let mut form = small();
    change(&mut form);
    Problem::new(&form).expect_err("it is wrong").to_string()
}

#[test]
fn each_refusal_names_the_item_and_what_would_be_right() {
    assert!(Problem::new(&small()).is_ok());
    let huge = 1 << 60;
    let refusals = [
        refusal(|form| form.version = 2),
        refusal(|form| form.resources.clear()),
        refusal(|form| form.nodes[1].name = "n0".into()),
        refusal(|form| form.nodes[1].name = "x".repeat(129)),
        refusal(|form| form.nodes[0].fault_domain.clear()),
        refusal(|form| form.nodes[0].capacity = vec![1, 2]),
        refusal(|form| form.nodes[1].target = vec![huge]),
        refusal(|form| form.replicas[0].group = "other".into()),
        refusal(|form| form.replicas[1].node = Some("n7".into())),
        refusal(|form| form.replicas[1].demand.clear()),
        refusal(|form| form.replicas[0].demand[0] = huge),
        refusal(|form| form.resources[0].load_weight = huge),
        refusal(|form| {
            let (resource, against) = ("cpu".to_owned(), "disk".to_owned());
            form.balances = vec![BalanceForm { resource, against, target: 1, weight: 1 }];
        }),
        refusal(|form| form.groups.push(GroupForm { name: "h".into(), spread_min: 0 })),
        refusal(|form| form.groups[0].spread_min = 3),
        refusal(|form| form.nodes[1].fault_domain = "rack-of-n0".into()),
        refusal(|form| form.nodes[0].may_hold = false),
        refusal(|form| form.moves.distances = DistancesForm::Nodes(vec![vec![0, 0]])),
        refusal(|form| form.moves.distances = DistancesForm::Nodes(vec![vec![0, 0], vec![0]])),
        refusal(|form| {
            let names = vec!["here".to_owned()];
            form.moves.distances = DistancesForm::Locations { names, costs: vec![vec![0]] };
        }),
        refusal(|form| {
            form.resources[0].load_weight = 1 << 40;
            form.replicas[0].demand[0] = 1 << 40;
        }),
        refusal(|form| {
            let (resource, against) = ("cpu".to_owned(), "cpu".to_owned());
            let (target, weight) = (1 << 53, 1 << 53);
            form.balances = vec![BalanceForm { resource, against, target, weight }];
            form.nodes.iter_mut().for_each(|node| node.capacity[0] = 1 << 53);
        }),
        refusal(|form| {
            form.moves.replica_weight = 1 << 50;
            form.replicas[1].move_cost = 1 << 50;
        }),
    ];
    let expected = [
        "version is 2: it must be 1",
        "there are 0 resources: there must be 1 to 32",
        "node \"n0\": there is another one of this name: names must be distinct",
        "node at 1: its name has 129 bytes: it must have 1 to 128",
        "node \"n0\": fault_domain: its name has 0 bytes: it must have 1 to 128",
        "node \"n0\": capacity has 2 entries: it must have 1, one for each resource",
        "node \"n1\": target of \"cpu\" is 1152921504606846976: it must be at most 9007199254740992",
        "replica \"r0\": group is \"other\": there is no such group",
        "replica \"r1\": node is \"n7\": there is no such node",
        "replica \"r1\": demand has 0 entries: it must have 1, one for each resource",
        "replica \"r0\": demand of \"cpu\" is 1152921504606846976: it must be at most 9007199254740992",
        "resource \"cpu\": load_weight is 1152921504606846976: it must be at most 9007199254740992",
        "balances[0]: against is \"disk\": there is no such resource",
        "group \"h\": it has no replicas: leave it out, or name it as some replica's group",
        "group \"g\": spread_min is 3: it must be at most 2, the number of its replicas",
        "group \"g\": spread_min is 2: it must be at most 1, the number of fault domains with nodes that may hold \
         replicas",
        "group \"g\": spread_min is 2: it must be at most 1, the number of fault domains with nodes that may hold \
         replicas",
        "moves: distances has 1 entries: it must have 2, one for each node",
        "moves: row 1 of distances: it has 1 entries: it must have 2, one for each node",
        "node \"n0\": location is missing: moves are priced by location",
        "the cost could reach 2417851639235855419179008: it must stay below 2305843009213693952; choose \
         coarser units or smaller weights",
        "the cost could reach 170141183460469231731687303715884105727: it must stay below 2305843009213693952; choose \
         coarser units or smaller weights",
        "replica \"r1\": the cost of moving it could reach 1267650600228229401496703205376: it must stay \
         below 2305843009213693952; choose coarser units or smaller weights",
    ];
    assert_eq!(refusals.len(), expected.len());
    for (found, expected) in refusals.iter().zip(expected) {
        assert_eq!(found, expected);
    }
}

#[test]
fn a_group_that_is_as_far_apart_as_can_be_is_no_refusal() {
    let accepted = |change: &dyn Fn(&mut ProblemForm)| {
        let mut form = small();
        change(&mut form);
        Problem::new(&form).is_ok()
    };
    // A node that may receive nothing may keep what it has.
    assert!(accepted(&|form| form.nodes[0].may_receive = false));
    assert!(accepted(&|form| form.groups[0].spread_min = 0));
    assert!(accepted(&|form| {
        form.nodes.iter_mut().for_each(|node| node.may_hold = false);
        form.groups[0].spread_min = 1;
    }));
}

#[test]
fn a_misspelt_field_is_refused() {
    let text = serde_json::to_string(&small()).unwrap().replace("move_cost", "moving_cost");
    let error = serde_json::from_str::<ProblemForm>(&text).unwrap_err().to_string();
    assert!(error.contains("unknown field `moving_cost`"), "{error}");
}
