//! Which media type and which encoding a client wants, by its headers (RFC 9110, 12.4 and 12.5).

/// The place of the media type that the client likes best; the first of equals, and the first of all if it likes none: whoever
/// scrapes can rather do with another format than with none. `None` if there is none to choose from.
pub(super) fn choose<'a>(
    accept: impl Iterator<Item = &'a str>,
    available: impl Iterator<Item = &'static str>,
) -> Option<usize> {
    let ranges: Vec<_> = accept
        .flat_map(|line| line.split(','))
        .filter_map(Range::parse)
        .collect();
    let mut best = None;
    for (place, media_type) in available.enumerate() {
        // What the most specific range says of it counts.
        let matching = ranges.iter().filter_map(|range| {
            let specific = range.matches(media_type)?;
            Some((specific, range.quality))
        });
        let quality = matching.max_by_key(|(specific, _)| *specific);
        let quality = quality.map_or(0, |(_, quality)| quality);
        if best.is_none_or(|(_, highest)| quality > highest) {
            best = Some((place, quality));
        }
    }
    best.map(|(place, _)| place)
}

/// Whether the client takes gzip.
pub(super) fn takes_gzip<'a>(accept: impl Iterator<Item = &'a str>) -> bool {
    let (mut gzip, mut any) = (None, None);
    for coding in accept.flat_map(|line| line.split(',')) {
        let mut pieces = coding.split(';');
        let name = pieces.next().unwrap_or_default().trim();
        let quality = quality(pieces);
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            gzip = Some(quality);
        } else if name == "*" {
            any = Some(quality);
        }
    }
    gzip.or(any).is_some_and(|quality| quality > 0)
}

/// One of the ranges of an `Accept` header: `text/plain;version=0.0.4;q=0.5`.
struct Range<'a> {
    main: &'a str,
    sub: &'a str,
    /// What parameters it asks for, as far as they tell formats apart.
    version: Option<&'a str>,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut pieces = text.split(';');
        let (main, sub) = pieces.next()?.trim().split_once('/')?;
        let version = parameter(pieces.clone(), "version");
        Some(Self {
            main,
            sub,
            version,
            quality: quality(pieces),
        })
    }

    /// How specific it is, if it holds for this media type.
    fn matches(&self, media_type: &str) -> Option<u8> {
        let mut pieces = media_type.split(';');
        let (main, sub) = pieces.next()?.trim().split_once('/')?;
        let same = |range: &str, own: &str| range == "*" || range.eq_ignore_ascii_case(own);
        let version = parameter(pieces, "version");
        let other_version = self.version.is_some() && self.version != version;
        if !same(self.main, main) || !same(self.sub, sub) || other_version {
            return None;
        }
        Some(match self {
            Self { main: "*", .. } => 0,
            Self { sub: "*", .. } => 1,
            Self { version: None, .. } => 2,
            Self { .. } => 3,
        })
    }
}

/// The value of a parameter, without quotes around it.
fn parameter<'a>(pieces: impl Iterator<Item = &'a str>, wanted: &str) -> Option<&'a str> {
    let mut pairs = pieces.filter_map(|piece| piece.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))?;
    Some(value.trim().trim_matches('"'))
}

/// In thousandths: 1000 unless there is another; what is no number counts as 0.
fn quality<'a>(pieces: impl Iterator<Item = &'a str>) -> u16 {
    let Some(text) = parameter(pieces, "q") else {
        return 1000;
    };
    let quality = text.parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0);
    // NaN is no number either, and becomes 0.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 1000"
    )]
    {
        (quality * 1000.0).round() as u16
    }
}
