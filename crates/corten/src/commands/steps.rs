//! Flags of a build that say what RUN steps get.

use corten_build::Entitlements;

use crate::error::CliError;

/// What `--allow` can name.
const ENTITLEMENTS: [&str; 2] = ["security.insecure", "network.host"];

/// Reads all `--allow`.
pub(super) fn entitlements(texts: &[String]) -> Result<Entitlements, CliError> {
    let mut allowed = Entitlements::default();
    for text in texts {
        match text.as_str() {
            "security.insecure" => allowed.insecure = true,
            "network.host" => allowed.host_network = true,
            other => {
                let near = corten_diag::suggest::nearest(other, &ENTITLEMENTS);
                let hint = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are `{}`", ENTITLEMENTS.join("`, `")),
                };
                return Err(CliError::new(format!("`--allow {other}` is not known")).hint(hint));
            }
        }
    }
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entitlements_have_the_names_of_buildkit() {
        let of = |texts: &[&str]| {
            entitlements(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).ok()
        };
        assert_eq!(of(&[]), Some(Entitlements::default()));
        let both = Entitlements { insecure: true, host_network: true };
        assert_eq!(of(&["security.insecure", "network.host"]), Some(both));
        assert_eq!(of(&["security"]), None);
    }
}
