//! Where the code of functions is.

use serde_json::Value;

use super::{packages::Package, resources::Resource};

/// Where the code of a function or the contents of a layer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// A directory, or a file in it, relative to the template.
    Path(String),
    /// The source text itself, in the template.
    Inline(String),
    /// An object in a bucket, which may also be beside the template.
    Packaged(Package),
}

/// Where the code of a function or the contents of a layer are, which SAM and CloudFormation name differently.
pub(super) fn of(resource: &Resource<'_>, [of_sam, plain]: [&str; 2]) -> Code {
    // The bucket has no meaning here.
    let keys = ["ZipFile", "S3Key", "Key"];
    let source = resource.parts(of_sam, &keys).or_else(|| resource.parts(plain, &keys));
    let source = source.as_ref();
    let inline = resource.get("InlineCode").or_else(|| source?.get("ZipFile")).and_then(Value::as_str);
    let path = source.and_then(Value::as_str);
    match (inline, path) {
        (Some(text), _) => Code::Inline(text.to_owned()),
        (None, Some(path)) if !path.starts_with("s3://") => Code::Path(path.to_owned()),
        // Source: SAM, whose default is the directory of the template.
        (None, None) if source.is_none() => Code::Path(".".to_owned()),
        (None, path) => {
            let key = || source.and_then(|source| source.get("S3Key").or_else(|| source.get("Key")))?.as_str();
            let asset = resource.metadata().and_then(|metadata| metadata.get("aws:asset:path"));
            Code::Packaged(Package {
                asset: asset.and_then(Value::as_str).map(str::to_owned),
                key: path.or_else(key).map(str::to_owned),
            })
        }
    }
}
