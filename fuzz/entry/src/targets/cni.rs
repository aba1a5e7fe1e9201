//! Bytes of runtimes and plugins.

use crate::Target;
use cni_core::cni::{
    AddResult, CniArgs, CniError, Environment, NetConf, NetConfList, Parameters, PluginConf, SpecVersion,
};

/// Configurations, as runtimes and plugins read them.
pub(crate) const CONFIGURATION: Target = Target {
    name: "cni_configuration",
    run: configuration,
    seeds: &[
        br#"{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"ptp","ipam":{"type":"host-local","subnet":"10.1.0.0/16"},"capabilities":{"portMappings":true},"x":1}],"disableCheck":false,"disableGC":"true"}"#,
        br#"{"cniVersion":"0.4.0","name":"net","type":"bridge","ipam":{"type":"host-local"},"dns":{"nameservers":["10.1.0.1"],"search":["a"]},"args":{"cni":{"ips":["10.1.0.9/16"]}},"runtimeConfig":{"ips":["10.1.0.7"]},"prevResult":{"cniVersion":"0.4.0","interfaces":[{"name":"eth0","mac":"00:11:22:33:44:55","sandbox":"/n"}],"ips":[{"version":"4","address":"10.1.0.5/16","interface":0}]}}"#,
        br#"{"cniVersion":"1.1.0","name":"net","type":"a","cni.dev/valid-attachments":[{"containerID":"c","ifname":"eth0"}],"cniVersions":["1.0.0","1.1.0"]}"#,
    ],
};

fn configuration(bytes: &[u8]) {
    if let Ok(list) = NetConfList::parse(bytes) {
        let json = list.to_json().to_string();
        assert_eq!(NetConfList::parse(json.as_bytes()).ok().as_ref(), Some(&list), "{json}");
    }
    if let Ok(conf) = PluginConf::parse(bytes) {
        let json = conf.to_json().to_string();
        assert_eq!(PluginConf::parse(json.as_bytes()).ok().as_ref(), Some(&conf), "{json}");
    }
    if let Ok(conf) = NetConf::parse(bytes)
        && let Ok(json) = conf.to_json()
    {
        let again = NetConf::from_json(json.clone()).and_then(|again| again.to_json());
        assert_eq!(again.ok(), Some(json));
    }
    let _either = NetConfList::from_single(bytes);
}

/// Results and errors that plugins print.
pub(crate) const RESULT: Target = Target {
    name: "cni_result",
    run: result,
    seeds: &[
        br#"{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","mac":"00:11:22:33:44:55","mtu":1450,"sandbox":"/n","socketPath":"/s","pciID":"p"}],"ips":[{"address":"10.1.0.5/16","gateway":"10.1.0.1","interface":0}],"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1","mtu":1,"advmss":2,"priority":3,"table":4,"scope":5}],"dns":{"nameservers":["10.1.0.1"],"domain":"d","search":["s"],"options":["o"]}}"#,
        br#"{"cniVersion":"0.4.0","interfaces":[{"name":"eth0"}],"ips":[{"version":"6","address":"fd00::5/64","gateway":"fd00::1","interface":0}],"routes":[{"dst":"::/0"}],"dns":{}}"#,
        br#"{"cniVersion":"0.2.0","ip4":{"ip":"10.1.0.5/16","gateway":"10.1.0.1","routes":[{"dst":"0.0.0.0/0"}]},"ip6":{"ip":"fd00::5/64"},"dns":{}}"#,
        br#"{"cniVersion":"1.0.0","code":11,"msg":"try again","details":"later"}"#,
    ],
};

fn result(bytes: &[u8]) {
    let _error = CniError::parse(bytes).map(|error| error.to_json(SpecVersion::V1_1_0));
    for default in [SpecVersion::V0_1_0, SpecVersion::V0_3_1, SpecVersion::V1_1_0] {
        let Ok(result) = AddResult::parse(bytes, default) else { continue };
        let _verdict = result.check();
        for version in [
            SpecVersion::V0_1_0,
            SpecVersion::V0_2_0,
            SpecVersion::V0_3_0,
            SpecVersion::V0_3_1,
            SpecVersion::V0_4_0,
            SpecVersion::V1_0_0,
            SpecVersion::V1_1_0,
        ] {
            let Ok(json) = result.to_json(version) else { continue };
            // A field that only a newer form knows is kept unread, so the first reading may see it, or refuse it. After
            // that nothing changes any more.
            let Ok(again) = AddResult::from_json(json, version) else { continue };
            let Ok(json) = again.to_json(version) else { continue };
            let once_more = AddResult::from_json(json.clone(), version).and_then(|again| again.to_json(version));
            assert_eq!(once_more.ok(), Some(json));
        }
    }
}

/// The environment of a plugin: one variable per line.
pub(crate) const ENVIRONMENT: Target = Target {
    name: "cni_environment",
    run: environment,
    seeds: &[
        b"CNI_COMMAND=ADD\nCNI_CONTAINERID=c0ffee\nCNI_NETNS=/run/netns/a\nCNI_IFNAME=eth0\nCNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=a;IP=10.1.0.9\nCNI_PATH=/opt/cni/bin:/b",
        b"CNI_COMMAND=GC\nCNI_PATH=/opt/cni/bin",
        b"CNI_COMMAND=DEL\nCNI_CONTAINERID=../x\nCNI_IFNAME=a/b\nCNI_NETNS_OVERRIDE=true",
    ],
};

fn environment(bytes: &[u8]) {
    use std::os::unix::ffi::OsStrExt;
    let mut environment = Environment::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Some(at) = line.iter().position(|byte| *byte == b'=') {
            let text = |bytes| std::ffi::OsStr::from_bytes(bytes).to_owned();
            environment.set(text(&line[..at]), text(&line[at + 1..]));
        }
    }
    if let Ok(parameters) = Parameters::parse(&environment) {
        let again = Parameters::parse(&parameters.to_environment(Environment::default()));
        assert_eq!(again.ok().as_ref(), Some(&parameters));
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(args) = text.parse::<CniArgs>()
    {
        assert_eq!(args.to_string().parse().as_ref(), Ok(&args));
    }
}
