//! One configuration key, declared once: its type, default, bounds, how it may change, and what it is for.
//!
//! The parser's messages, DescribeConfigs, the checks of AlterConfigs and `docs/configuration.md` all come from here.

use super::value::{self, Invalid};

/// Kafka's type of a value, as DescribeConfigs names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Any text.
    String,
    /// 32 bits.
    Int,
    /// 16 bits.
    Short,
    /// 64 bits.
    Long,
    /// A real number.
    Double,
    /// Texts with commas between them.
    List,
    /// The name of a Java class.
    Class,
    /// A text that is never shown.
    Password,
}

impl Kind {
    /// Kafka's name of the type, as messages spell it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "BOOLEAN",
            Kind::String => "STRING",
            Kind::Int => "INT",
            Kind::Short => "SHORT",
            Kind::Long => "LONG",
            Kind::Double => "DOUBLE",
            Kind::List => "LIST",
            Kind::Class => "CLASS",
            Kind::Password => "PASSWORD",
        }
    }

    /// The number of the type in DescribeConfigs answers (3 and later).
    pub fn code(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::String => 2,
            Kind::Int => 3,
            Kind::Short => 4,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
            Kind::Class => 8,
            Kind::Password => 9,
        }
    }
}

/// What a value must satisfy beyond its type.
#[derive(Debug, Clone, Copy)]
pub enum Check {
    /// Nothing.
    Any,
    /// A number of at least this.
    AtLeast(f64),
    /// A number in this closed range.
    Between(f64, f64),
    /// A number in this closed range, or this one.
    BetweenOr(f64, f64, f64),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// One of these texts in any case.
    OneOfAnyCase(&'static [&'static str]),
    /// A list of some of these, none twice, not empty.
    EachOf(&'static [&'static str]),
    /// A text that is not empty.
    NotEmpty,
    /// Whatever the function says.
    By(fn(&str) -> Result<(), String>),
}

/// How a broker key may change while the broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only at a start.
    ReadOnly,
    /// For one broker.
    PerBroker,
    /// For one broker, or for all.
    ClusterWide,
}

/// How much an operator has to care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// Look at it.
    High,
    /// Good to know.
    Medium,
    /// Rarely touched.
    Low,
}

/// Where a key comes from and what it does here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Kafka's, with Kafka's meaning.
    Kafka,
    /// Kafka's; read and shown, without effect here.
    Accepted,
    /// Terrace's own.
    Ours,
}

/// Turns the value of a synonym into the key's own unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Convert {
    /// The same value.
    Same,
    /// Minutes to milliseconds.
    Minutes,
    /// Hours to milliseconds.
    Hours,
}

/// A broker key that supplies the default of a topic or group key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synonym {
    /// The broker key.
    pub name: &'static str,
    /// From its unit to ours.
    pub convert: Convert,
}

/// One key. Built by the functions below, one expression per key, in `keys/`.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its default; `None` is Kafka's null.
    pub default: Option<&'static str>,
    /// Its bounds.
    pub check: Check,
    /// How it changes.
    pub mode: Mode,
    /// How much it matters.
    pub importance: Importance,
    /// Where it comes from.
    pub standing: Standing,
    /// Kafka's internal keys are read but never listed.
    pub internal: bool,
    /// Kafka's default and the reason, where ours is another.
    pub differs: Option<(Option<&'static str>, &'static str)>,
    /// Broker keys behind a topic or group key, the first one that is set wins.
    pub synonyms: &'static [Synonym],
    /// What it is for. Empty for accepted keys.
    pub text: &'static str,
}

impl Key {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Key {
            name,
            kind,
            default: None,
            check: Check::Any,
            mode: Mode::ReadOnly,
            importance: Importance::Medium,
            standing: Standing::Kafka,
            internal: false,
            differs: None,
            synonyms: &[],
            text: "",
        }
    }

    /// The default.
    pub const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self
    }

    /// Ours differs from Kafka's default, for this reason.
    pub const fn differs(mut self, kafka: Option<&'static str>, why: &'static str) -> Self {
        self.differs = Some((kafka, why));
        self
    }

    /// A lower bound.
    pub const fn at_least(mut self, least: i64) -> Self {
        // Exact: bounds are small powers of two or of ten.
        self.check = Check::AtLeast(least as f64);
        self
    }

    /// Both bounds.
    pub const fn between(mut self, least: f64, most: f64) -> Self {
        self.check = Check::Between(least, most);
        self
    }

    /// Any other check.
    pub const fn check(mut self, check: Check) -> Self {
        self.check = check;
        self
    }

    /// May change for one broker.
    pub const fn per_broker(mut self) -> Self {
        self.mode = Mode::PerBroker;
        self
    }

    /// May change for one broker or all.
    pub const fn cluster_wide(mut self) -> Self {
        self.mode = Mode::ClusterWide;
        self
    }

    /// Matters much.
    pub const fn high(mut self) -> Self {
        self.importance = Importance::High;
        self
    }

    /// Matters little.
    pub const fn low(mut self) -> Self {
        self.importance = Importance::Low;
        self
    }

    /// Read, shown, without effect.
    pub const fn accepted(mut self) -> Self {
        self.standing = Standing::Accepted;
        self
    }

    /// Terrace's own key.
    pub const fn ours(mut self) -> Self {
        self.standing = Standing::Ours;
        self
    }

    /// Never listed.
    pub const fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// The broker keys behind this one.
    pub const fn synonyms(mut self, synonyms: &'static [Synonym]) -> Self {
        self.synonyms = synonyms;
        self
    }

    /// What it is for.
    pub const fn says(mut self, text: &'static str) -> Self {
        self.text = text;
        self
    }

    /// Never shown.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// Checks a value against type and bounds, with Kafka's message.
    pub fn validate(&self, value: &str) -> Result<(), Invalid> {
        value::validate(self, value)
    }
}

/// A key of this type.
pub const fn boolean(name: &'static str) -> Key {
    Key::new(name, Kind::Boolean)
}

/// A key of this type.
pub const fn string(name: &'static str) -> Key {
    Key::new(name, Kind::String)
}

/// A key of this type.
pub const fn int(name: &'static str) -> Key {
    Key::new(name, Kind::Int)
}

/// A key of this type.
pub const fn short(name: &'static str) -> Key {
    Key::new(name, Kind::Short)
}

/// A key of this type.
pub const fn long(name: &'static str) -> Key {
    Key::new(name, Kind::Long)
}

/// A key of this type.
pub const fn double(name: &'static str) -> Key {
    Key::new(name, Kind::Double)
}

/// A key of this type.
pub const fn list(name: &'static str) -> Key {
    Key::new(name, Kind::List)
}

/// A key of this type.
pub const fn class(name: &'static str) -> Key {
    Key::new(name, Kind::Class)
}

/// A key of this type.
pub const fn password(name: &'static str) -> Key {
    Key::new(name, Kind::Password)
}

/// The broker key of this name, in the same unit.
pub const fn same(name: &'static str) -> Synonym {
    Synonym { name, convert: Convert::Same }
}

/// The broker key of this name, in minutes.
pub const fn minutes(name: &'static str) -> Synonym {
    Synonym { name, convert: Convert::Minutes }
}

/// The broker key of this name, in hours.
pub const fn hours(name: &'static str) -> Synonym {
    Synonym { name, convert: Convert::Hours }
}
