"""What upstream's launcher does with a plugin, an experiment and a stage; on the CPU."""

import argparse
import importlib.util
import os
import sys


def load_custom_modules():
    """Each folder of ``custom`` in the current folder, under its own name with its hyphens."""
    for name in os.listdir("custom"):
        path = os.path.join("custom", name)
        spec = importlib.util.spec_from_file_location(name, os.path.join(path, "__init__.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    stage = parser.add_mutually_exclusive_group(required=True)
    for name in ("train", "validate", "test", "export"):
        stage.add_argument(f"--{name}", action="store_true")
    args, extras = parser.parse_known_args()

    import pytorch_lightning as pl
    import torch
    from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
    from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

    import threestudio
    from threestudio.utils.config import dump_config, load_config

    load_custom_modules()
    cfg = load_config(args.config, cli_args=extras, n_gpus=1)
    pl.seed_everything(cfg.seed, workers=True)
    dm = threestudio.find(cfg.data_type)(cfg.data)
    system = threestudio.find(cfg.system_type)(cfg.system, resumed=cfg.resume is not None)
    system.set_save_dir(os.path.join(cfg.trial_dir, "save"))
    callbacks, loggers = [], []
    if args.train:
        os.makedirs(os.path.join(cfg.trial_dir, "configs"), exist_ok=True)
        dump_config(os.path.join(cfg.trial_dir, "configs", "parsed.yaml"), cfg)
        callbacks += [
            ModelCheckpoint(dirpath=os.path.join(cfg.trial_dir, "ckpts"), **cfg.checkpoint),
            LearningRateMonitor(logging_interval="step"),
        ]
        loggers += [
            TensorBoardLogger(cfg.trial_dir, name="tb_logs"),
            CSVLogger(cfg.trial_dir, name="csv_logs"),
            *system.get_loggers(),
        ]
    trainer = pl.Trainer(
        callbacks=callbacks, logger=loggers, inference_mode=False, accelerator="cpu", devices=1, **cfg.trainer
    )
    if args.train:
        trainer.fit(system, datamodule=dm, ckpt_path=cfg.resume)
        trainer.test(system, datamodule=dm)
        return
    if cfg.resume is not None:
        ckpt = torch.load(cfg.resume, map_location="cpu")
        system.set_resume_status(ckpt["epoch"], ckpt["global_step"])
    run = trainer.validate if args.validate else trainer.test if args.test else trainer.predict
    run(system, datamodule=dm, ckpt_path=cfg.resume)


if __name__ == "__main__":
    main()
