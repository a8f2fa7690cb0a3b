//! Who a client is and what it may do. Nothing of it has an effect yet, so listeners that ask for it are refused.

use crate::config::key::{Check, Key, boolean, class, double, int, list, long, password, short, string};

/// The entries.
pub(super) const KEYS: &[Key] = &[
    string("authorizer.class.name").default("").low().accepted(),
    int("connection.failed.authentication.delay.ms").default("100").at_least(0).low().accepted(),
    long("connections.max.reauth.ms").default("0").accepted(),
    long("delegation.token.expiry.check.interval.ms").default("3600000").at_least(1).low().accepted(),
    long("delegation.token.expiry.time.ms").default("86400000").at_least(1).accepted(),
    long("delegation.token.max.lifetime.ms").default("604800000").at_least(1).accepted(),
    password("delegation.token.secret.key").accepted(),
    class("principal.builder.class")
        .default("org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder")
        .per_broker()
        .accepted(),
    class("sasl.client.callback.handler.class").accepted(),
    list("sasl.enabled.mechanisms").default("GSSAPI").per_broker().accepted(),
    password("sasl.jaas.config").per_broker().accepted(),
    string("sasl.kerberos.kinit.cmd").default("/usr/bin/kinit").per_broker().accepted(),
    long("sasl.kerberos.min.time.before.relogin").default("60000").per_broker().accepted(),
    list("sasl.kerberos.principal.to.local.rules").default("DEFAULT").per_broker().accepted(),
    string("sasl.kerberos.service.name").per_broker().accepted(),
    double("sasl.kerberos.ticket.renew.jitter").default("0.05").per_broker().accepted(),
    double("sasl.kerberos.ticket.renew.window.factor").default("0.8").per_broker().accepted(),
    class("sasl.login.callback.handler.class").accepted(),
    class("sasl.login.class").accepted(),
    int("sasl.login.connect.timeout.ms").low().accepted(),
    int("sasl.login.read.timeout.ms").low().accepted(),
    short("sasl.login.refresh.buffer.seconds").default("300").per_broker().accepted(),
    short("sasl.login.refresh.min.period.seconds").default("60").per_broker().accepted(),
    double("sasl.login.refresh.window.factor").default("0.8").per_broker().accepted(),
    double("sasl.login.refresh.window.jitter").default("0.05").per_broker().accepted(),
    long("sasl.login.retry.backoff.max.ms").default("10000").low().accepted(),
    long("sasl.login.retry.backoff.ms").default("100").low().accepted(),
    string("sasl.mechanism.controller.protocol").default("GSSAPI").high().accepted(),
    string("sasl.mechanism.inter.broker.protocol").default("GSSAPI").per_broker().accepted(),
    string("sasl.oauthbearer.assertion.algorithm")
        .default("RS256")
        .check(Check::OneOfAnyCase(&["ES256", "RS256"]))
        .accepted(),
    string("sasl.oauthbearer.assertion.claim.aud").accepted(),
    int("sasl.oauthbearer.assertion.claim.exp.seconds").default("300").between(0.0, 86400.0).low().accepted(),
    string("sasl.oauthbearer.assertion.claim.iss").accepted(),
    boolean("sasl.oauthbearer.assertion.claim.jti.include").default("false").accepted(),
    int("sasl.oauthbearer.assertion.claim.nbf.seconds").default("60").between(0.0, 3600.0).low().accepted(),
    string("sasl.oauthbearer.assertion.claim.sub").accepted(),
    string("sasl.oauthbearer.assertion.file").accepted(),
    string("sasl.oauthbearer.assertion.private.key.file").accepted(),
    password("sasl.oauthbearer.assertion.private.key.passphrase").accepted(),
    string("sasl.oauthbearer.assertion.template.file").accepted(),
    string("sasl.oauthbearer.client.credentials.client.id").accepted(),
    password("sasl.oauthbearer.client.credentials.client.secret").accepted(),
    int("sasl.oauthbearer.clock.skew.seconds").default("30").low().accepted(),
    list("sasl.oauthbearer.expected.audience").default("").high().accepted(),
    string("sasl.oauthbearer.expected.issuer").high().accepted(),
    long("sasl.oauthbearer.jwks.endpoint.refresh.ms").default("3600000").low().accepted(),
    long("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms").default("10000").low().accepted(),
    long("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms").default("100").low().accepted(),
    string("sasl.oauthbearer.jwks.endpoint.url").accepted(),
    class("sasl.oauthbearer.jwt.retriever.class")
        .default("org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever")
        .accepted(),
    class("sasl.oauthbearer.jwt.validator.class")
        .default("org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator")
        .accepted(),
    string("sasl.oauthbearer.scope").accepted(),
    string("sasl.oauthbearer.scope.claim.name").default("scope").low().accepted(),
    string("sasl.oauthbearer.sub.claim.name").default("sub").low().accepted(),
    string("sasl.oauthbearer.token.endpoint.url").accepted(),
    class("sasl.server.callback.handler.class").accepted(),
    int("sasl.server.max.receive.size").default("524288").accepted(),
    string("security.providers").low().accepted(),
    boolean("ssl.allow.dn.changes").default("false").low().accepted(),
    boolean("ssl.allow.san.changes").default("false").low().accepted(),
    list("ssl.cipher.suites").default("").per_broker().accepted(),
    string("ssl.client.auth")
        .default("none")
        .check(Check::OneOf(&["required", "requested", "none"]))
        .per_broker()
        .accepted(),
    list("ssl.enabled.protocols").default("TLSv1.2,TLSv1.3").per_broker().accepted(),
    string("ssl.endpoint.identification.algorithm").default("https").per_broker().low().accepted(),
    class("ssl.engine.factory.class").per_broker().low().accepted(),
    password("ssl.key.password").per_broker().accepted(),
    string("ssl.keymanager.algorithm").default("SunX509").per_broker().accepted(),
    password("ssl.keystore.certificate.chain").per_broker().accepted(),
    password("ssl.keystore.key").per_broker().accepted(),
    string("ssl.keystore.location").per_broker().accepted(),
    password("ssl.keystore.password").per_broker().accepted(),
    string("ssl.keystore.type").default("JKS").per_broker().accepted(),
    string("ssl.principal.mapping.rules").default("DEFAULT").low().accepted(),
    string("ssl.protocol").default("TLSv1.3").per_broker().accepted(),
    string("ssl.provider").per_broker().accepted(),
    string("ssl.secure.random.implementation").per_broker().low().accepted(),
    string("ssl.trustmanager.algorithm").default("PKIX").per_broker().accepted(),
    password("ssl.truststore.certificates").per_broker().accepted(),
    string("ssl.truststore.location").per_broker().accepted(),
    password("ssl.truststore.password").per_broker().accepted(),
    string("ssl.truststore.type").default("JKS").per_broker().accepted(),
];
