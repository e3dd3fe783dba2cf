//! Generates Rust from the project's own `.proto` files, without protoc.

use std::path::Path;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let sources = [
        "protos/api.proto",
        "protos/attestation_agent.proto",
        "protos/getresource.proto",
        "protos/keyprovider.proto",
        "tests/interop/peer.proto",
    ];
    let inputs: Vec<_> = sources.iter().map(|source| root.join(source)).collect();
    for input in &inputs {
        println!("cargo:rerun-if-changed={}", input.display());
    }
    ttrpc_codegen::Codegen::new()
        .includes([root.join("protos"), root.join("tests/interop")])
        .inputs(&inputs)
        .rust_protobuf()
        .customize(ttrpc_codegen::Customize {
            async_all: true,
            gen_mod: true,
            ..Default::default()
        })
        .rust_protobuf_customize(ttrpc_codegen::ProtobufCustomize::default().gen_mod_rs(true))
        .run()
        .expect("the .proto files are valid");
}
