//! Nothing makes the checks fail.

use proptest::prelude::*;

use super::{render, request};
use crate::Request;

fn line() -> impl Strategy<Value = String> {
    let known = proptest::sample::select(vec![
        "FROM busybox AS One",
        "from $x as two",
        "FROM --platform=$TARGETPLATFORM one",
        "ARG a=$b token",
        "ENV a $a",
        "COPY --from=two $a ${b:-c} /",
        "COPY --from=9 a /",
        "RUN a \\",
        "RUN <<E",
        "E",
        "",
        "# check=skip=all",
        "# check=experimental=all",
        "ONBUILD CMD x",
        "EXPOSE 80/TCP 1:2:3",
        "WORKDIR ü",
        "CMD x",
    ]);
    prop_oneof![4 => known.prop_map(str::to_owned), 1 => "[ -~ü]{0,12}"]
}

proptest! {
    #[test]
    fn any_file_can_be_checked(lines in prop::collection::vec(line(), 0..20), all in any::<bool>()) {
        let text = lines.join("\n");
        // A line may be a directive that cannot be read; that is another test's matter.
        let options = Some("experimental=all".to_owned());
        let request = Request { all_stages: all, options, ..request() };
        let first = render(&text, &request);
        prop_assert_eq!(first, render(&text, &request));
    }
}
