//! Writes the code of the gRPC services, so that building the server needs neither protoc nor a generator.
//!
//! `ModelInfer` is left out of the code, and stays in the descriptor that reflection shows: its message is read where it lands, see
//! `crates/server/src/wire/oip/message.rs`.

use std::error::Error;
use std::fs;
use std::path::Path;

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/server");
    let to = server.join("src/http/grpc");
    let mut files = protox::compile(["open_inference.proto"], [server.join("proto")])?;
    let mut shown = files.clone();
    shown.file.iter_mut().for_each(|file| file.source_code_info = None);
    fs::write(to.join("descriptor.bin"), shown.encode_to_vec())?;

    for file in &mut files.file {
        for service in &mut file.service {
            service.method.retain(|method| method.name() != "ModelInfer");
        }
        file.message_type
            .retain(|message| !message.name().starts_with("ModelInfer") && !message.name().starts_with("Infer"));
    }
    let out = std::env::temp_dir().join(format!("plimsoll-grpc-{}", std::process::id()));
    fs::create_dir_all(&out)?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .out_dir(&out)
        .compile_fds(files)?;
    let code = fs::read_to_string(out.join("inference.rs"))?;
    fs::remove_dir_all(out)?;
    let head = "// Written by tools/grpc from proto/open_inference.proto: do not edit.\n";
    fs::write(to.join("generated.rs"), format!("{head}{code}"))?;
    Ok(())
}
