//! Annotations and what they are put on.

use corten_oci::platform::Platform;

use super::spec::SpecError;

/// What an annotation is put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Manifest,
    /// The entry of the manifest in an index.
    ManifestDescriptor,
    /// The index of the platforms.
    Index,
    /// The entry of the index in the index of an OCI layout.
    IndexDescriptor,
}

impl Subject {
    /// As they are written.
    pub(super) const NAMES: [&'static str; 4] =
        ["manifest", "manifest-descriptor", "index", "index-descriptor"];

    /// Whether there is one for all platforms.
    pub(super) fn is_of_index(self) -> bool {
        matches!(self, Self::Index | Self::IndexDescriptor)
    }
}

/// One annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    pub subject: Subject,
    /// Only for images of this platform.
    pub platform: Option<Platform>,
    pub key: String,
    pub value: String,
}

impl Annotation {
    /// Parses `[SUBJECT[,SUBJECT…]:]KEY=VALUE`, in which a subject may be followed by `[PLATFORM]`.
    pub fn parse(text: &str) -> Result<Vec<Self>, SpecError> {
        let wrong = || SpecError::Annotation { text: text.to_owned() };
        let (left, value) = text.split_once('=').ok_or_else(wrong)?;
        let (subjects, key) = left.split_once(':').unwrap_or(("manifest", left));
        if key.is_empty() {
            return Err(wrong());
        }
        subjects.split(',').map(|subject| Self::new(subject, key, value)).collect()
    }

    /// Parses a key of an output, such as `annotation.KEY` or `annotation-manifest[PLATFORM].KEY`;
    /// `None` for another key.
    pub(super) fn of_key(key: &str, value: &str) -> Result<Option<Self>, SpecError> {
        let Some(rest) = key.strip_prefix("annotation") else { return Ok(None) };
        let Some((subject, name)) = rest.split_once('.') else { return Ok(None) };
        let subject = match subject.strip_prefix('-') {
            Some(subject) => subject.to_owned(),
            None if subject.is_empty() || subject.starts_with('[') => format!("manifest{subject}"),
            None => return Ok(None),
        };
        if name.is_empty() {
            return Err(SpecError::Annotation { text: format!("{key}={value}") });
        }
        Self::new(&subject, name, value).map(Some)
    }

    fn new(subject: &str, key: &str, value: &str) -> Result<Self, SpecError> {
        let (subject, platform) = match subject.strip_suffix(']').and_then(|s| s.split_once('[')) {
            Some((subject, text)) => {
                let platform = text.parse::<Platform>().map_err(|source| {
                    SpecError::AnnotationPlatform { text: text.to_owned(), source }
                })?;
                (subject, Some(platform))
            }
            None => (subject, None),
        };
        let subject = match subject {
            "manifest" => Subject::Manifest,
            "manifest-descriptor" => Subject::ManifestDescriptor,
            "index" | "index-descriptor" if platform.is_some() => {
                return Err(SpecError::AnnotationIndexPlatform { key: key.to_owned() });
            }
            "index" => Subject::Index,
            "index-descriptor" => Subject::IndexDescriptor,
            other => return Err(SpecError::AnnotationSubject { subject: other.to_owned() }),
        };
        Ok(Self { subject, platform, key: key.to_owned(), value: value.to_owned() })
    }
}
