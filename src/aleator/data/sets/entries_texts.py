"""The entries of the texts and treebanks: files at fixed commits, and the gzipped copies that a local mirror may hold.

Where the mirror holds a published file gzipped, the checksum of the published file was taken from the copy's content,
which the git object at the address confirms.
"""

from __future__ import annotations

from aleator.data.sets.entries import DatasetInfo, RemoteFile

_GITHUB = "https://raw.githubusercontent.com/"


def _files(base: str, *checksums: tuple[str, str, int]) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(name, (base + name,), sha256, size) for name, sha256, size in checksums)


def _mirror(*checksums: tuple[str, str, int]) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(name, (), sha256, size) for name, sha256, size in checksums)


TINY_SHAKESPEARE = DatasetInfo(
    name="tinyshakespeare",
    title="plays of Shakespeare, 1 text, 1.1 MB",
    kind="text",
    reader="shakespeare",
    files=_files(
        _GITHUB + "karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/",
        ("input.txt", "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed", 1_115_394),
    ),
    licence="public domain",
    terms="open",
    mirror_files=_mirror(
        ("input.txt.gz", "13125fe8f49092165d7d489e3944db52d1ba546e64a60080cc9523bcd0c5e46a", 433_884),
    ),
    notes=("The split is ours: the first 90 % of the bytes, the next 5 % for validation, the last 5 % for the test.",),
)

WIKITEXT2 = DatasetInfo(
    name="wikitext2",
    title="tokenised Wikipedia articles, 1 text, 13 MB",
    kind="text",
    reader="wikitext",
    files=(
        RemoteFile(
            "wikitext-2-v1.zip",
            (
                "https://s3.amazonaws.com/research.metamind.io/wikitext/wikitext-2-v1.zip",
                "https://wikitext.smerity.com/wikitext-2-v1.zip",
            ),
            # As Hugging Face's dataset_infos.json of wikitext and other downloaders record it.
            "92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
            4_475_746,
        ),
    ),
    licence="CC BY-SA 3.0",
    terms="open",
    mirror_files=_mirror(
        ("valid.txt.gz", "3cdd8cb5bb349a05840c7c3bef9578d90d64df77e27e0c25c033ba9342757ee3", 373_475),
        ("test.txt.gz", "688887879b4b526692cb2e423a516dcc5f6584a01fd3f33a8e164fbed2de8090", 410_944),
    ),
    mirror_lacks="no training part (11 MB); the first 90 % of the validation part stands for it, the rest validates",
    notes=(
        "Words are separated by blanks, rare ones are <unk>.",
        "Cite S. Merity et al., Pointer Sentinel Mixture Models, 2016, arXiv 1609.07843.",
    ),
)

UDHR2 = DatasetInfo(
    name="udhr2",
    title="Declaration of Human Rights, 387 languages, 5.7 MB",
    kind="text",
    reader="udhr",
    files=_files(
        _GITHUB + "nltk/nltk_data/5db857e6f7df11eabb5e5665836db9ec8df07e28/packages/corpora/",
        ("udhr2.zip", "0796c314b09a930c989c6f9d93d226af9af13feccd88496e196c743dd266c7f3", 1_653_975),
    ),
    licence="public domain",
    terms="open",
    notes=(
        "Of the 388 files one, nku, is empty and left out; chr, dzo, khk_mong, pbu, taj, tgl_tglg and tzm_tfng hold "
        "less than a kilobyte.",
        "The split is ours: of each text the first 80 % of the bytes, the next 10 % for validation, the last 10 % for "
        "the test. The texts are translations of each other, but not aligned.",
    ),
)

TICO19 = DatasetInfo(
    name="tico19",
    title="health news and encyclopaedia, 3,071 sentences in 21 languages, 18 MB",
    kind="text",
    reader="tico",
    files=_files(
        _GITHUB + "tico-19/tico-19.github.io/d97615f9cffa28ec7de571e00fbd513e5a1c7fc7/data/TM/",
        ("all.en-ar.tmx.zip", "9f08855934280255d0da67accb921939a64e8c72fdcca9ede0f473bf36a09468", 423_246),
        ("all.en-bn.tmx.zip", "eb6bdd3f2e11705538342492a2fddccc261a1c8223ebb7a753c9796e4d3b2399", 469_976),
        ("all.en-es-LA.tmx.zip", "f99ead6835c6e039424c3a425fc5bda56e89d1b901b0aeb461c40455ac5fa185", 381_511),
        ("all.en-fa.tmx.zip", "b67eb41493c78c510f0d1badfce5a3e6f1d33842d8a4d9c433754b79ab82b1be", 416_031),
        ("all.en-fr.tmx.zip", "6163c12be9aca3fd11a2d86f762f61d7f5f0608b22afb60bab6e5415d9c455e2", 389_003),
        ("all.en-hi.tmx.zip", "15f0c198bf872e190fdbb0bb7b009ecc78a7cb6d36f6f6e727e7f6d64d2b8365", 448_122),
        ("all.en-id.tmx.zip", "92f5678617da3f69d6f1227aa4a918100f9230f53b19a4105598e9828a176c84", 359_803),
        ("all.en-km.tmx.zip", "1a516875d42c88888fa070058210233a50dd6b8d737ff81d5cc8fdc3b1ef19bd", 474_217),
        ("all.en-mr.tmx.zip", "b6c45e13d5c46cef715c7462449830917ab6156b9610d3cd485a1729ef1ec21e", 468_879),
        ("all.en-my.tmx.zip", "e344ed2e389a89503d7c90f493ef1851940816f470cdc7cab4d5c1ad915a8a45", 511_407),
        ("all.en-ne.tmx.zip", "1474118b8afaadb73ea74862ef1919960fe6ff60263e5cb3993d594eae66b655", 454_539),
        ("all.en-pt-BR.tmx.zip", "e82ca59c00cd124e033101618acdb3d071c57183e237998b12f5518d6be3df2c", 378_665),
        ("all.en-ru.tmx.zip", "efe7076a35e82bb0987d4e2e768f1729190acc6fd15c4a821362afd10d600994", 464_716),
        ("all.en-sw.tmx.zip", "665d685b739044f805d254494f6da8f93761f71767b5f63582f8b5792c6c8a06", 366_948),
        ("all.en-ta.tmx.zip", "fe11ff63a5cf6f949a8c4a5290aa54e59cc9583ed4cfff24344b7e6a81a3a843", 490_842),
        ("all.en-ti_ET.tmx.zip", "08d5ca0f1cc32ebe75f24f58acaa5dae3b84f47672f89ae510a8007a5b252a55", 444_636),
        ("all.en-tl.tmx.zip", "dca3dba5e39008fbcf9c0cece64c5e83352c87f48bebf7c3f8c76a8e1887c725", 374_841),
        ("all.en-ur.tmx.zip", "a4160a22c7bcb814c580815a00b1c1d386257c4c8e823d7e733ba8b0f84cce72", 424_450),
        ("all.en-zh.tmx.zip", "094d85c551124723d3ada75db50272c7301bd045df4805eb38e2060b51bfe80d", 385_761),
        ("all.en-zu.tmx.zip", "e9d81f44f92ee9883852d88aed285bc2ee0577b80bd1343ccc52ebc5e631dd28", 373_808),
    ),
    licence="CC0 1.0",
    terms="open",
    mirror_files=_mirror(
        ("tico19_parallel.tsv.gz", "710a3b16655832bcba7a4a4845bf9b0c484188441e298953faba8ae7b9789e3b", 6_150_033),
    ),
    notes=(
        "The split is ours: the same 2,457 sentences of every language for training, 307 for validation and 307 for "
        "the test, chosen by one permutation that never changes.",
        "Every run of white space in a sentence is one blank; where English copies differ, the commonest is used.",
        "Cite A. Anastasopoulos et al., TICO-19: the Translation Initiative for COvid-19, 2020, arXiv 2007.01788.",
    ),
)

UD_ENGLISH_EWT = DatasetInfo(
    name="ud-english-ewt",
    title="English web treebank, 12,544 + 2,001 + 2,077 sentences",
    kind="treebank",
    reader="conllu",
    files=_files(
        _GITHUB + "UniversalDependencies/UD_English-EWT/15d613d8447b3478787d4c278730a1e48a945efb/",
        ("en_ewt-ud-train.conllu", "3fb78e2b55482c8ee00caa653af436c88c9e5bc9a73ce26e4ae3ddc79d2b7e7b", 14_203_025),
        ("en_ewt-ud-dev.conllu", "531a54ff90d6ab12201c5a50c3e78e6ddac4de69abc4bce5d275d3cd29efe2b6", 1_805_545),
        ("en_ewt-ud-test.conllu", "e266e515a0a7547657ed3d90d9ba46487d6bd251f27ad4269d4e8a427c8555cd", 1_804_515),
    ),
    licence="CC BY-SA 4.0",
    terms="open",
    mirror_files=_mirror(
        ("en_ewt-ud-train.conllu.gz", "4861d76b9c49cb3524dfdf7d02e78c1d6a4c4e6fb892f9e6128cc671a6f195a8", 2_608_077),
        ("en_ewt-ud-dev.conllu.gz", "24656b4a407808e7b9e42959b2e39e18ae5580bfbf3b27938d6873dabaed8845", 334_223),
        ("en_ewt-ud-test.conllu.gz", "0506bfdbccef68634d5429369e67a7d4418b2340bd2b2ddcfca8373514af83bc", 331_264),
    ),
    notes=("Cite N. Silveira et al., A Gold Standard Dependency Corpus for English, LREC 2014.",),
)

UD_GALICIAN_TREEGAL = DatasetInfo(
    name="ud-galician-treegal",
    title="Galician treebank, 600 + 0 + 400 sentences",
    kind="treebank",
    reader="conllu",
    files=_files(
        _GITHUB + "UniversalDependencies/UD_Galician-TreeGal/0b9224483beddb2c05f51228f7823aa77450c0a4/",
        ("gl_treegal-ud-train.conllu", "2e469c3bd17a710bc1913ba325691a3a5ba9417f1003f9e3a42c91e15e603f5b", 1_053_300),
        ("gl_treegal-ud-test.conllu", "685d6f2e8d4fc819247c9c1fafdcca310f9796522c22672733690fd751673817", 685_103),
    ),
    licence="LGPL-LR",
    terms="open",
    mirror_files=_mirror(
        ("gl_treegal-ud-train.conllu.gz", "6d1f5228d0a728699569fa901b897dbc77961128a99486e5810d1678b42a4e86", 180_078),
        ("gl_treegal-ud-test.conllu.gz", "a7bd20caae1c6ecab980f1c39ad61831ee1f7cfe76c1ccc1c847b7cf001c2582", 118_969),
    ),
    notes=("There is no dev part.",),
)
