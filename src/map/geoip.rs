//! `geoip`: which country a client's address is in, by a file as `MaxMind` and others publish it.
//!
//! Main types: [`GeoIp`] (a file's contents), [`Outside`] (what a map's text refers to beyond itself: the
//! environment, files). Such files say alpha-2 codes, maps mostly alpha-3 ones: [`alpha3`] translates.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use maxminddb::{PathElement, Reader};

/// Reads the `GeoIP` file of a name, or says what is wrong with it.
pub type ReadGeoIp<'a> = &'a dyn Fn(&str) -> Result<Arc<GeoIp>, String>;

/// What a map refers to beyond its text.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    /// Answers `${VAR}`.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// `None`: `GeoIP` files are not read.
    pub geoip: Option<ReadGeoIp<'a>>,
}

impl<'a> Outside<'a> {
    /// The environment alone.
    pub fn of(env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { env, geoip: None }
    }
}

/// Which country an address is in.
pub struct GeoIp(Reader<Vec<u8>>);

impl fmt::Debug for GeoIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GeoIp").field(&self.0.metadata().database_type).finish()
    }
}

impl GeoIp {
    /// Reads a file's contents.
    ///
    /// # Errors
    ///
    /// They are not such a file, or one that tells no countries; said as what follows the file's name.
    pub fn read(contents: Vec<u8>) -> Result<Self, String> {
        let reader = Reader::from_source(contents)
            .map_err(|error| format!("is not a MaxMind database: {error}"))?;
        let kind = &reader.metadata().database_type;
        // City and Enterprise files tell the country too; of others' names nothing is known.
        for other in ["ASN", "ISP", "Domain", "Connection-Type", "Anonymous"] {
            if kind.contains(other) {
                return Err(format!("tells no countries: it is of type {kind}"));
            }
        }
        Ok(Self(reader))
    }

    /// The alpha-2 code of the country that an address is in, if the file says so.
    pub fn country(&self, address: IpAddr) -> Option<String> {
        let path = [PathElement::Key("country"), PathElement::Key("iso_code")];
        // What a torn file says of an address is nothing.
        self.0.lookup(address).ok()?.decode_path::<String>(&path).ok()?
    }
}

/// ISO 3166-1: each country's alpha-2 code, followed by its alpha-3 code; with them Kosovo, whose codes are in
/// use and in `GeoIP` files, but not assigned.
const COUNTRIES: &str = "\
ADAND AEARE AFAFG AGATG AIAIA ALALB AMARM AOAGO AQATA ARARG ASASM ATAUT AUAUS AWABW AXALA \
AZAZE BABIH BBBRB BDBGD BEBEL BFBFA BGBGR BHBHR BIBDI BJBEN BLBLM BMBMU BNBRN BOBOL BQBES \
BRBRA BSBHS BTBTN BVBVT BWBWA BYBLR BZBLZ CACAN CCCCK CDCOD CFCAF CGCOG CHCHE CICIV CKCOK \
CLCHL CMCMR CNCHN COCOL CRCRI CUCUB CVCPV CWCUW CXCXR CYCYP CZCZE DEDEU DJDJI DKDNK DMDMA \
DODOM DZDZA ECECU EEEST EGEGY EHESH ERERI ESESP ETETH FIFIN FJFJI FKFLK FMFSM FOFRO FRFRA \
GAGAB GBGBR GDGRD GEGEO GFGUF GGGGY GHGHA GIGIB GLGRL GMGMB GNGIN GPGLP GQGNQ GRGRC GSSGS \
GTGTM GUGUM GWGNB GYGUY HKHKG HMHMD HNHND HRHRV HTHTI HUHUN IDIDN IEIRL ILISR IMIMN ININD \
IOIOT IQIRQ IRIRN ISISL ITITA JEJEY JMJAM JOJOR JPJPN KEKEN KGKGZ KHKHM KIKIR KMCOM KNKNA \
KPPRK KRKOR KWKWT KYCYM KZKAZ LALAO LBLBN LCLCA LILIE LKLKA LRLBR LSLSO LTLTU LULUX LVLVA \
LYLBY MAMAR MCMCO MDMDA MEMNE MFMAF MGMDG MHMHL MKMKD MLMLI MMMMR MNMNG MOMAC MPMNP MQMTQ \
MRMRT MSMSR MTMLT MUMUS MVMDV MWMWI MXMEX MYMYS MZMOZ NANAM NCNCL NENER NFNFK NGNGA NINIC \
NLNLD NONOR NPNPL NRNRU NUNIU NZNZL OMOMN PAPAN PEPER PFPYF PGPNG PHPHL PKPAK PLPOL PMSPM \
PNPCN PRPRI PSPSE PTPRT PWPLW PYPRY QAQAT REREU ROROU RSSRB RURUS RWRWA SASAU SBSLB SCSYC \
SDSDN SESWE SGSGP SHSHN SISVN SJSJM SKSVK SLSLE SMSMR SNSEN SOSOM SRSUR SSSSD STSTP SVSLV \
SXSXM SYSYR SZSWZ TCTCA TDTCD TFATF TGTGO THTHA TJTJK TKTKL TLTLS TMTKM TNTUN TOTON TRTUR \
TTTTO TVTUV TWTWN TZTZA UAUKR UGUGA UMUMI USUSA UYURY UZUZB VAVAT VCVCT VEVEN VGVGB VIVIR \
VNVNM VUVUT WFWLF WSWSM XKXKX YEYEM YTMYT ZAZAF ZMZMB ZWZWE";

/// The alpha-3 code of a country, by its alpha-2 code.
pub fn alpha3(alpha2: &str) -> Option<&'static str> {
    COUNTRIES.split(' ').find_map(|codes| {
        let (two, three) = codes.split_at_checked(2)?;
        (two == alpha2).then_some(three)
    })
}

/// Whether this is a country's code, alpha-2 or alpha-3.
pub fn is_country(label: &str) -> bool {
    COUNTRIES
        .split(' ')
        .filter_map(|codes| codes.split_at_checked(2))
        .any(|(two, three)| label == two || label == three)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn countries_have_two_codes() {
        assert_eq!(COUNTRIES.split(' ').count(), 250);
        let mut codes: Vec<(&str, &str)> =
            COUNTRIES.split(' ').map(|own| own.split_at(2)).collect();
        assert!(codes.iter().all(|(_, three)| three.len() == 3));
        assert!(codes.is_sorted());
        codes.sort_by_key(|(_, three)| *three);
        codes.dedup_by_key(|(_, three)| *three);
        assert_eq!(codes.len(), 250);
        for (two, three) in
            [("US", "USA"), ("DE", "DEU"), ("CH", "CHE"), ("XK", "XKX"), ("GB", "GBR")]
        {
            assert_eq!(alpha3(two), Some(three));
            assert!(is_country(two) && is_country(three));
        }
        assert_eq!(alpha3("EU"), None);
        assert!(!is_country("EU") && !is_country("DEUSA") && !is_country("") && !is_country("us"));
    }
}
