#!/bin/bash
D=/work/main/target/debug/deps; name=$1; src=$2; out=$3
# rlibs that the last cargo test of this crate linked: from the dep-info of the linker is not kept, so pins.
ex=""; while read e f; do ex="$ex --extern $e=$D/$f"; done < pins
rustc --edition 2024 --test --crate-name $name $src --cfg tokio_unstable -C opt-level=1 -C debug-assertions=on -L dependency=$D $(for d in /work/main/target/debug/build/*/out; do echo -n "-L native=$d "; done) $ex -o $out 2>&1 | tail -30
