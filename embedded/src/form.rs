//! `multipart/form-data`: bound parameters, and the statement, as fields of a form.

use bytes::Bytes;
use http_body_util::{BodyDataStream, Limited};
use hyper::body::Incoming;

use crate::exception::{Code, Exception};
use crate::execute::{Request, STATEMENT_BYTES_MAX};

/// All fields together.
const FORM_BYTES_MAX: usize = 4 * STATEMENT_BYTES_MAX;

pub fn boundary(content_type: Option<&str>) -> Option<String> {
    multer::parse_boundary(content_type?).ok()
}

/// Takes the form's fields into the request; it has no body after that.
pub async fn take(
    body: Incoming,
    boundary: String,
    request: &mut Request,
) -> Result<(), Exception> {
    let limited = BodyDataStream::new(Limited::new(body, FORM_BYTES_MAX));
    let mut form = multer::Multipart::new(limited, boundary);
    while let Some(field) = form.next_field().await.map_err(broken)? {
        let name = field.name().unwrap_or_default().to_owned();
        let value: Bytes = field.bytes().await.map_err(broken)?;
        if let Some(parameter) = name.strip_prefix("param_") {
            request.params.push((parameter.to_owned(), value.to_vec()));
        } else if name == "query" {
            request.query = Some(value.to_vec());
        } else {
            let message = format!("the form field {name:?}: external tables are not served");
            return Err(Exception::new(Code::NotImplemented, message));
        }
    }
    Ok(())
}

fn broken(error: multer::Error) -> Exception {
    let message = format!("the form cannot be read (at most {FORM_BYTES_MAX} bytes): {error}");
    Exception::new(Code::BadArguments, message)
}
